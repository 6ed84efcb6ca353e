"""A simulated Vast.ai: the HTTP API with its quirks over the simulation engine, served in process or by the command
line. `served(...)` is the door; everything else is one file per area of the API."""

from bareboat.clouds.vast.sim.control import Control as Control
from bareboat.clouds.vast.sim.simulator import Simulator as Simulator
from bareboat.clouds.vast.sim.simulator import served as served
from bareboat.clouds.vast.sim.switches import Switches as Switches
