"""Where things usually are. Written by `python -m envs.alfworld.experts.count_places`, from the
training games; not by hand.
"""

PLACES = {
    kind: tuple(places.split())
    for kind, _, places in (
        line.partition(": ")
        for line in """\
alarmclock: diningtable desk countertop dresser sidetable shelf
apple: diningtable sidetable garbagecan fridge countertop sinkbasin microwave
bathtub: bathtubbasin
book: bed coffeetable desk diningtable countertop sofa dresser armchair tvstand sidetable cabinet drawer shelf
bowl: desk coffeetable diningtable dresser tvstand fridge countertop shelf sidetable sinkbasin cabinet microwave
box: diningtable desk coffeetable sofa dresser ottoman tvstand sidetable shelf armchair cabinet
bread: diningtable countertop sidetable fridge garbagecan microwave coffeemachine
butterknife: diningtable countertop sidetable sinkbasin drawer
candle: sidetable countertop toilet coffeetable cart tvstand diningtable dresser shelf cabinet drawer
cd: diningtable dresser desk sidetable garbagecan armchair drawer shelf cabinet safe
cellphone: bed desk diningtable coffeetable ottoman dresser tvstand countertop sofa sidetable armchair safe shelf \
drawer cabinet
cloth: bathtubbasin dresser cart countertop shelf cabinet toilet sinkbasin drawer sidetable
creditcard: desk dresser diningtable tvstand sofa countertop coffeetable sidetable armchair ottoman shelf drawer
cup: diningtable sidetable fridge sinkbasin countertop microwave shelf cabinet
curtains: sidetable
desklamp: sidetable desk dresser coffeetable shelf
dishsponge: bathtubbasin cart diningtable countertop toilet sinkbasin sidetable garbagecan shelf drawer cabinet
egg: diningtable sidetable garbagecan sinkbasin fridge countertop microwave
floorlamp: sinkbasin
fork: diningtable countertop sidetable sinkbasin drawer
glassbottle: diningtable countertop sinkbasin garbagecan shelf fridge cabinet
handtowel: handtowelholder countertop
houseplant: desk diningtable countertop coffeetable dresser sidetable tvstand shelf cabinet
kettle: diningtable stoveburner countertop sinkbasin cabinet shelf
keychain: desk dresser coffeetable diningtable tvstand sidetable safe ottoman sofa armchair shelf countertop drawer \
cabinet
knife: diningtable countertop sidetable sinkbasin drawer coffeemachine garbagecan
ladle: diningtable countertop sinkbasin drawer cabinet
laptop: bed countertop diningtable desk coffeetable sofa tvstand dresser ottoman armchair sidetable
lettuce: diningtable countertop sidetable fridge sinkbasin garbagecan
mirror: countertop dresser
mug: desk coffeemachine dresser diningtable sidetable countertop fridge sinkbasin microwave shelf cabinet
newspaper: diningtable dresser coffeetable sofa ottoman sidetable armchair tvstand shelf drawer garbagecan
pan: countertop stoveburner diningtable fridge cabinet toaster sinkbasin
papertowelroll: diningtable toilet cart sidetable countertop garbagecan shelf
pen: desk diningtable coffeetable dresser countertop sidetable tvstand shelf garbagecan drawer
pencil: diningtable desk coffeetable dresser sidetable countertop tvstand shelf garbagecan drawer
peppershaker: sidetable diningtable countertop shelf cabinet drawer
pillow: bed sofa armchair ottoman
plate: diningtable coffeetable countertop tvstand dresser sidetable fridge shelf sinkbasin cabinet microwave
pot: stoveburner countertop diningtable fridge shelf sinkbasin cabinet toaster
potato: diningtable countertop sidetable fridge sinkbasin garbagecan microwave
remotecontrol: countertop desk coffeetable dresser tvstand diningtable sofa ottoman sidetable armchair shelf drawer
saltshaker: diningtable sidetable countertop shelf cabinet drawer
showerglass: countertop shelf
sink: countertop sinkbasin
soapbar: sidetable countertop bathtubbasin cart toilet sinkbasin shelf garbagecan cabinet drawer
soapbottle: diningtable dresser toilet countertop sidetable cart garbagecan shelf cabinet drawer
spatula: diningtable countertop sinkbasin sidetable drawer stoveburner
spoon: diningtable sidetable countertop sinkbasin drawer coffeemachine
spraybottle: sidetable cart toilet countertop dresser diningtable shelf garbagecan cabinet drawer
statue: coffeetable desk diningtable dresser tvstand countertop sidetable shelf
teddybear: bed
television: dresser tvstand coffeetable sidetable
tissuebox: coffeetable desk countertop diningtable cart tvstand shelf sidetable dresser cabinet toilet drawer \
garbagecan
toiletpaper: toilet sidetable countertop dresser cart toiletpaperhanger shelf garbagecan cabinet drawer bathtubbasin
tomato: diningtable sidetable fridge countertop garbagecan sinkbasin
towel: towelholder countertop
vase: dresser coffeetable desk diningtable tvstand countertop sidetable shelf cabinet
watch: tvstand desk diningtable dresser coffeetable sidetable drawer shelf
wateringcan: coffeetable shelf sidetable
window: countertop dresser shelf
winebottle: diningtable countertop garbagecan shelf cabinet sidetable fridge
""".splitlines()
    )
}
"""For each kind of thing the kinds of places where one was seen, the best to look into first."""
