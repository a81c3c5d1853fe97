"""The keys of TRL's GRPOConfig and GMPOConfig (1.16): their defaults, and those without effect."""

from typing import Any

GRPO_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": True,
    "seed": 42,
    "num_generations": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_iterations": 1,
    "max_completion_length": 512,
    "temperature": 1.0,
    "beta": 0.0,
    "epsilon": 0.2,
    "scale_rewards": "group",
    "loss_type": "dapo",
    "importance_sampling_level": "token",
}
"""What TRL takes for a key that the file leaves out, where our default may be another."""

GMPO_DEFAULTS: dict[str, Any] = {**GRPO_DEFAULTS, "epsilon": 0.4}

_UNUSED = (
    "loss_type delta importance_sampling_level entropy_coef use_adaptive_entropy entropy_coef_min "
    "entropy_coef_max entropy_coef_delta entropy_target off_policy_mask_threshold "
    "use_bias_correction_kl vllm_importance_sampling_correction vllm_importance_sampling_mode "
    "vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
    "vllm_importance_sampling_cap sapo_temperature_neg sapo_temperature_pos vespo_k_pos "
    "vespo_lambda_pos vespo_k_neg vespo_lambda_neg"
)
UNUSED_BY_GMPO = frozenset(_UNUSED.split())
"""Keys of GRPOConfig that GMPOTrainer accepts and does not use."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1.0,),
    "top_k": (0, -1, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0,),
    "top_entropy_quantile": (1.0,),
    "mask_truncated_completions": (False,),
    "sync_ref_model": (False,),
    "reward_weights": (None,),
    "use_adaptive_entropy": (False,),
    "fp16": (False,),
    "generation_kwargs": (None, {}),
    "model_init_kwargs": (None, {}),
    "lr_scheduler_kwargs": (None, {}),
    "router_aux_loss_coef": (None, 0.0),
    "label_smoothing_factor": (0.0,),
    "neftune_noise_alpha": (None,),
    "optim_args": (None,),
    "optim_target_modules": (None,),
    "adam_epsilon": (1e-8,),
    "vllm_structured_outputs_regex": (None,),
    "max_tool_calling_iterations": (None,),
    "trust_remote_code": (False,),
    "disable_dropout": (False, True),
    "vllm_importance_sampling_clip_min": (None,),
    "vllm_importance_sampling_cap": (None,),
    "warmup_ratio": (None, 0.0),
    "num_iterations": (1,),
}
"""Keys that we have no counterpart for, and their values that change nothing."""

_HOUSEKEEPING = (
    # Logs and the hub.
    "logging_dir logging_steps logging_strategy logging_first_step log_on_each_node "
    "logging_nan_inf_filter log_level log_level_replica disable_tqdm report_to run_name project "
    "trackio_space_id trackio_bucket_id trackio_static_space_id log_completions log_multimodal "
    "num_completions_to_print log_unique_prompts log_completions_hub_repo push_to_hub "
    "hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision "
    "include_num_input_tokens_seen skip_memory_metrics debug "
    # Data, evaluation and checkpoints of transformers' Trainer.
    "remove_unused_columns shuffle_dataset dataloader_drop_last dataloader_num_workers "
    "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
    "dataloader_multiprocessing_context dataloader_in_order data_seed train_sampling_strategy "
    "length_column_name label_names do_train do_eval do_predict eval_strategy eval_steps "
    "eval_delay eval_on_start eval_do_concat_batches eval_use_gather_object "
    "eval_accumulation_steps include_for_metrics batch_eval_metrics bf16_full_eval "
    "fp16_full_eval per_device_eval_batch_size num_generations_eval prediction_loss_only "
    "save_strategy save_only_model save_on_each_node enable_jit_checkpoint "
    "load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip "
    "restore_callback_states_from_checkpoint resume_from_checkpoint full_determinism "
    # How TRL computes and serves, which our learner and engine decide by themselves.
    "use_cpu local_rank accelerator_config parallelism_config fsdp fsdp_config deepspeed "
    "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph "
    "ddp_backend ddp_timeout tf32 torch_compile torch_compile_backend torch_compile_mode "
    "use_liger_kernel liger_kernel_config use_cache torch_empty_cache_steps auto_find_batch_size "
    "average_tokens_across_devices gradient_checkpointing_kwargs cast_lm_head_to_fp32 "
    "pad_to_multiple_of ds3_gather_for_generation cache_implementation use_vllm vllm_mode "
    "vllm_model_impl vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
    "vllm_group_port use_transformers_continuous_batching transformers_continuous_batching_config "
    "use_transformers_paged ref_model_mixup_alpha ref_model_sync_steps "
    "multi_objective_aggregation "
    # Of losses that are not chosen: `loss_type` says if one is.
    "sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg "
    "vespo_lambda_neg entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target "
)
HOUSEKEEPING = frozenset(_HOUSEKEEPING.split())
"""Keys that change nothing of what is learned here."""
