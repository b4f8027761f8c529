"""Time on a device that may have none: what is known of it, and what a reading's time becomes.

A Pi has no clock while it is off. Each reading keeps what cannot be wrong (which boot, and CLOCK_BOOTTIME
since then) beside the wall clock's opinion, and the wall clock is believed only as far as its synchronisation
goes. Whenever it is synchronised, an anchor (this boottime was that time) is kept; a reading that was taken
without gets its time from the anchors around it, once, before it is first sent.

- `boots`: which boot this is, by the kernel's boot id
- `synchronisation`: what the kernel, timesyncd and timedated say about synchronisation
- `timeline` (pure): boots, stretches of good time in them, and what follows for any moment
- `chronicle`: the timeline on disk, and the times that were given out and so are final
- `watch`: looks at the clock once a second: steps, anchors, signs of life
- `correction`: gives the readings on their way upstream their final time
"""

from agent.timekeeping.boots import Boot, recognise_boot
from agent.timekeeping.chronicle import Chronicle
from agent.timekeeping.correction import Correction
from agent.timekeeping.synchronisation import Synchronisation, probe
from agent.timekeeping.watch import ClockWatch

__all__ = ["Boot", "Chronicle", "ClockWatch", "Correction", "Synchronisation", "probe", "recognise_boot"]
