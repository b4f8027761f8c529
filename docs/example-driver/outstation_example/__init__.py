"""What this package brings. Importing it imports nothing else: a configuration that does not use it does not pay for it."""

from agent.processors.registry import Processor
from drivers.registry import Driver

SYSFS = Driver(
    config="outstation_example.config:SysfsConfig",
    source="outstation_example.source:SysfsSource",
    summary="a number that the kernel shows in a file, such as the processor's temperature",
    example="""\
[[source]]
id = "board"
driver = "sysfs"
path = "/sys/class/thermal/thermal_zone0/temp"
interval = "10 s"
codec = { type = "scaled", metric = "temperature", factor = 0.001, unit = "Cel" }
""",
)

MEDIAN = Processor(
    step="outstation_example.median:Median",
    options="outstation_example.median:MedianOptions",
    summary="the median of the last few values: single spikes are gone",
    example="""\
[[pipeline]]

[[pipeline.step]]
processor = "median"
metric = "temperature"
of = 5
""",
)
