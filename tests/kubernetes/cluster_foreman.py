"""A foreman as a service, with its containers in the cluster."""

from conftest import NAMESPACE, functions
from kit.process import wait_until


class ClusterService(functions.Service):
    def __init__(self, adit, box, relay, cluster):
        self.cluster = cluster
        super().__init__(adit, box, relay, cluster)

    def containers(self):
        pods = self.cluster.pods(NAMESPACE)
        return [pod for pod in pods if self.socket in pod["metadata"]["annotations"].get("adit.owner", "")]

    def pods(self, function):
        found = [pod for pod in self.containers() if pod["metadata"]["annotations"]["adit.function"] == function]
        return [pod for pod in found if pod["status"]["phase"] == "Running"]

    def container(self, function):
        wait_until(lambda: len(self.pods(function)) == 1, f"{function} has not one Pod", 20)
        return self.pods(function)[0]["metadata"]["name"]

    def log(self, pod):
        return self.cluster.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log")[1]
