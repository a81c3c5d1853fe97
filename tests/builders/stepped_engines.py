"""Engines that count their steps, in the place of vLLM's, for the thread that owns one."""

import time
from dataclasses import dataclass, field, replace

from rollouts.serving.engine_thread import Finished
from rollouts.serving.messages import CompletionRequest
from rollouts.types import Completion, FinishReason


@dataclass
class Counting:
    """Answers a request after as many steps as its prompt says, with the number of that step.

    Each has three tokens of a prompt, two of them in the cache, and was preempted once.
    """

    steps: int = 0
    left: dict[str, int] = field(default_factory=dict)
    dies_at: int | None = None
    aborted: list[str] = field(default_factory=list)
    closed: bool = False

    def shutdown(self) -> None:
        self.closed = True

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def add_request(self, request_id: str, prompt: int) -> None:
        if prompt < 1:
            raise ValueError("an empty prompt")
        self.left[request_id] = prompt

    def abort_request(self, request_id: str) -> None:
        self.aborted.append(request_id)
        del self.left[request_id]

    def step(self) -> list[Finished]:
        self.steps += 1
        if self.steps == self.dies_at:
            raise RuntimeError("out of memory")
        outputs = []
        for request_id in list(self.left):
            self.left[request_id] -= 1
            if self.left[request_id] == 0:
                del self.left[request_id]
                outputs.append(self.finished(request_id))
        return outputs

    def finished(self, request_id: str) -> Finished:
        return Finished(
            request_id=request_id,
            output=self.steps,
            sampled_tokens=5,
            prompt_tokens=3,
            cached_tokens=2,
            preemptions=1,
        )


class ForWorkers(Counting):
    """A request takes as many steps as it may have tokens; a step takes 10 ms.

    The token of a completion is the number of requests in its last step.
    """

    def add_request(self, request_id: str, request: CompletionRequest) -> None:  # type: ignore[override]
        super().add_request(request_id, request.max_tokens)

    def step(self) -> list[Finished]:
        time.sleep(0.01)
        self.together = len(self.left)
        return super().step()

    def finished(self, request_id: str) -> Finished:
        completion = Completion(
            token_ids=(self.together,),
            logprobs=(0.0,),
            finish_reason=FinishReason.STOP,
            versions=((0, 0),),
        )
        return replace(super().finished(request_id), output=completion)
