"""The one that talks to the engine: calls, queues, images, containers and web endpoints. It passes values on and never
unpickles one."""
