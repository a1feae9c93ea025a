"""All attempts, in the order in which the table shows them; those that may end the runtime come last."""

from tests.sandbox.battery.attempt import Attempt
from tests.sandbox.battery.files import FILES
from tests.sandbox.battery.kernel import KERNEL
from tests.sandbox.battery.network import NETWORK
from tests.sandbox.battery.planted import PLANTED
from tests.sandbox.battery.processes import NAMESPACES, PROCESSES
from tests.sandbox.battery.resources import RESOURCES

ATTEMPTS: tuple[Attempt, ...] = (*FILES, *PROCESSES, *NAMESPACES, *KERNEL, *NETWORK, *PLANTED, *RESOURCES)
