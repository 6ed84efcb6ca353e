"""A simulated RunPod: three HTTP APIs over one store and the simulation engine, served in process or by the command
line. `served(...)` is the door; everything else is one file per area."""

from bareboat.clouds.runpod.sim.control import Control as Control
from bareboat.clouds.runpod.sim.simulator import Simulator as Simulator
from bareboat.clouds.runpod.sim.simulator import planned as planned
from bareboat.clouds.runpod.sim.simulator import served as served
from bareboat.clouds.runpod.sim.switches import Switches as Switches
