"""A cluster of one real node, and what it needs: etcd, the parts of Kubernetes in one program that is built from their
source (node/), containerd, a bridge that Pods and node are at, and a registry of images. All of it ends with the
test."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import tempfile
import textwrap
import urllib.parse

import remains
from conftest import CACHE, ROOT, free_port
from kit.process import die_with_parent, wait_until
from remains import GROUP, groups

BRIDGE, ADDRESS, PODS = "adit-kube", "10.231.77.1", "10.231.77.0/24"
BRIDGE_MAC = "0a:58:0a:e7:4d:01"
SERVICES, API_SERVICE = "10.231.78.0/24", "10.231.78.1"
START_S = 180
PLURALS = {"NetworkPolicy": "networkpolicies"}
ADMIN = "admin-of-tests"
UNPACKED = os.path.join(ROOT, ".cache", "root", "usr")
PATH = os.pathsep.join(
    [f"{UNPACKED}/bin", f"{UNPACKED}/sbin", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
)


def run(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


def _make_groups():
    for group in groups():
        os.makedirs(group, exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # of the old kind, which nothing may be in before these are said
            if "/cpuset/" in group:
                with (
                    open(os.path.join(os.path.dirname(group), name)) as above,
                    open(os.path.join(group, name), "w") as own,
                ):
                    own.write(above.read())
        for name, share in (("cpu.shares", "8192"), ("cpu.weight", "800")):  # by itself it is one program of many
            with contextlib.suppress(FileNotFoundError), open(os.path.join(group, name), "r+") as own:
                own.write(share)


class Cluster:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="kube-")
        # Else it would have that of one of its ports, and another when that Pod has gone: all others would ask for the
        # node where it is no more.
        run("ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        self._remains = remains.begin(self.folder, BRIDGE, PATH)
        # An engine of images may have the machine forward nothing, nor bridges, but what is its own.
        run("iptables", "-I", *remains.forwards(BRIDGE), env={**os.environ, "PATH": PATH})
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.api, self.registry_port = free_port(ADDRESS), free_port("127.0.0.1")
        self.registry = f"127.0.0.1:{self.registry_port}"
        self.programs, self.stored = [], 0
        self.url = f"https://{ADDRESS}:{self.api}"

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(textwrap.dedent(text))
        return path

    def begin(self, name, *words):
        with open(self.at(f"{name}.log"), "ab") as log:
            self.programs.append(
                subprocess.Popen(
                    words, env={**os.environ, "PATH": PATH}, stdout=log, stderr=log, preexec_fn=die_with_parent
                )
            )

    def logs(self):
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(self.at(name), errors="replace") as file:
                    print(f"--- {name}\n{file.read()[-3000:]}")

    # --- its parts ---

    def start_registry(self, port=None, password=""):
        """With a password, it is one that nobody uses who has none."""
        port = port or self.registry_port
        self.write("htpasswd", f"tester:{password}\n")
        auth = f"auth: {{htpasswd: {{realm: it, path: {self.at('htpasswd')}}}}}" if password else ""
        text = f"""\
            version: 0.1
            storage: {{filesystem: {{rootdirectory: {self.at(f"registry-{port}")}}}}}
            http: {{addr: "127.0.0.1:{port}"}}
            {auth}
            """
        self.begin(f"registry-{port}", "docker-registry", "serve", self.write(f"registry-{port}.yml", text))

    def start(self):
        self._make_keys()
        self._start_containerd()
        self._start_node()

    def _make_keys(self):
        self.write(
            "san", f"subjectAltName=IP:{ADDRESS},IP:{API_SERVICE},DNS:kubernetes,DNS:{os.uname().nodename.lower()}\n"
        )
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        run(
            "openssl",
            "req",
            "-x509",
            *key,
            "-days",
            "2",
            "-subj",
            "/CN=cluster",
            "-keyout",
            self.at("ca.key"),
            "-out",
            self.at("ca.pem"),
        )
        for name, subject in (("server", "/CN=node"), ("client", "/O=system:masters/CN=admin")):
            run(
                "openssl",
                "req",
                *key,
                "-subj",
                subject,
                "-keyout",
                self.at(f"{name}.key"),
                "-out",
                self.at(f"{name}.csr"),
            )
            run(
                "openssl",
                "x509",
                "-req",
                "-days",
                "2",
                "-in",
                self.at(f"{name}.csr"),
                "-CA",
                self.at("ca.pem"),
                "-CAkey",
                self.at("ca.key"),
                "-CAcreateserial",
                "-extfile",
                self.at("san"),
                "-out",
                self.at(f"{name}.pem"),
            )
        run("openssl", "genrsa", "-out", self.at("accounts.key"), "2048")
        self.write("tokens", f"{ADMIN},admin,admin,system:masters\n")
        self.admin = self.kubeconfig("admin", ADMIN)

    def kubeconfig(self, name, token, namespace="default"):
        with open(self.at("ca.pem"), "rb") as file:
            trust = base64.b64encode(file.read()).decode()
        return self.write(
            f"{name}.config",
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "it",
                    "clusters": [{"name": "it", "cluster": {"server": self.url, "certificate-authority-data": trust}}],
                    "users": [{"name": "it", "user": {"token": token}}],
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
                }
            ),
        )

    def _start_containerd(self):
        self.write(
            "cni/10-bridge.conflist",
            json.dumps(
                {
                    "cniVersion": "1.0.0",
                    "name": "pods",
                    "plugins": [
                        {
                            "type": "bridge",
                            "bridge": BRIDGE,
                            "isGateway": True,
                            "hairpinMode": False,
                            "ipam": {
                                "type": "host-local",
                                "dataDir": self.at("addresses"),
                                "rangeStart": "10.231.77.10",
                                "subnet": PODS,
                                "routes": [{"dst": "0.0.0.0/0"}],
                            },
                        }
                    ],
                }
            ),
        )
        config = self.write(
            "containerd.toml",
            f"""\
            version = 2
            root = "{self.at("containerd")}"
            state = "{self.at("state")}"
            [grpc]
            address = "{self.at("containerd.sock")}"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "{self.registry}/pause:1"
            restrict_oom_score_adj = true
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "{UNPACKED}/lib/cni"
            conf_dir = "{self.at("cni")}"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            default_runtime_name = "runc"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.internal.v1.opt"]
            path = "{self.at("opt")}"
            """,
        )
        self.begin("containerd", "containerd", "--config", config)
        wait_until(lambda: os.path.exists(self.at("containerd.sock")), "containerd does not start", START_S)

    def _start_node(self):
        node = os.path.join(CACHE, "node")
        etcd = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self.begin(
            "etcd",
            "etcd",
            "--data-dir",
            self.at("etcd"),
            "--listen-client-urls",
            etcd,
            "--advertise-client-urls",
            etcd,
            "--listen-peer-urls",
            "http://127.0.0.1:0",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:0",
            "--initial-cluster",
            "default=http://127.0.0.1:0",
            "--unsafe-no-fsync",
        )
        self.begin(
            "apiserver",
            node,
            "apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            f"--secure-port={self.api}",
            f"--tls-cert-file={self.at('server.pem')}",
            f"--tls-private-key-file={self.at('server.key')}",
            f"--client-ca-file={self.at('ca.pem')}",
            f"--token-auth-file={self.at('tokens')}",
            "--authorization-mode=RBAC,Node",
            f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={self.at('accounts.key')}",
            f"--service-account-signing-key-file={self.at('accounts.key')}",
            f"--kubelet-client-certificate={self.at('client.pem')}",
            f"--kubelet-client-key={self.at('client.key')}",
            f"--kubelet-certificate-authority={self.at('ca.pem')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--feature-gates=SizeBasedListCostEstimate=false",
        )  # an etcd of Debian's age does not do for it
        wait_until(self.is_up, "the API server does not start", START_S)
        self.begin(
            "manager",
            node,
            "controller-manager",
            f"--kubeconfig={self.admin}",
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.at('accounts.key')}",
            f"--root-ca-file={self.at('ca.pem')}",
        )
        self.begin(
            "scheduler", node, "scheduler", f"--kubeconfig={self.admin}", "--leader-elect=false", "--secure-port=0"
        )
        config = self.write(
            "kubelet.yml",
            f"""\
            apiVersion: kubelet.config.k8s.io/v1beta1
            kind: KubeletConfiguration
            address: {ADDRESS}
            port: 10250
            healthzPort: 0
            readOnlyPort: 0
            tlsCertFile: {self.at("server.pem")}
            tlsPrivateKeyFile: {self.at("server.key")}
            authentication:
              anonymous: {{enabled: false}}
              webhook: {{enabled: true}}
              x509: {{clientCAFile: {self.at("ca.pem")}}}
            authorization: {{mode: Webhook, webhook: {{cacheUnauthorizedTTL: 1ms}}}}
            containerRuntimeEndpoint: unix://{self.at("containerd.sock")}
            cgroupDriver: cgroupfs
            cgroupRoot: /{GROUP}
            cgroupsPerQOS: true
            enforceNodeAllocatable: []
            failSwapOn: false
            makeIPTablesUtilChains: false
            evictionHard:
              {{memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}}
            podPidsLimit: 512
            serializeImagePulls: false
            podLogsDir: {self.at("logs")}
            volumePluginDir: {self.at("plugins")}
            clusterDomain: cluster.local
            """,
        )
        _make_groups()
        self.begin(
            "kubelet",
            node,
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={self.admin}",
            f"--root-dir={self.at('kubelet')}",
            f"--node-ip={ADDRESS}",
            f"--cert-dir={self.at('certificates')}",
        )
        wait_until(self.is_ready, "the node does not become ready", START_S)

    # --- its API ---

    def ask(self, method, path, body=None, token=ADMIN, kind="application/json"):
        """Its status, and what it says."""
        trust = ssl.create_default_context(cafile=self.at("ca.pem"))
        with contextlib.closing(
            http.client.HTTPSConnection(ADDRESS, self.api, context=trust, timeout=30)
        ) as connection:
            text = body if isinstance(body, (str, type(None))) else json.dumps(body)
            connection.request(method, path, text, {"Authorization": f"Bearer {token}", "Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
        with contextlib.suppress(ValueError):
            said = json.loads(said)
        return answer.status, said

    def get(self, path):
        status, said = self.ask("GET", path)
        assert status == 200, said
        return said

    def look(self):
        assert all(program.poll() is None for program in self.programs), "a part of the node has ended"

    def is_up(self):
        self.look()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/readyz")[0] == 200
        return False

    def is_ready(self):
        self.look()
        nodes = self.get("/api/v1/nodes")["items"]
        conditions = [c for node in nodes for c in node["status"].get("conditions", []) if c["type"] == "Ready"]
        return any(c["status"] == "True" for c in conditions)

    def apply(self, path, **options):
        """What a file has, as a user would: kubectl apply."""
        for text in filter(str.strip, re.split(r"^---$", open(path).read(), flags=re.M)):
            kind, name = (re.search(rf"^(?:  )?{word}: *(\S+)", text, re.M)[1] for word in ("kind", "name"))
            space = re.search(r"^  namespace: *(\S+)", text, re.M)
            group = re.search(r"^apiVersion: *(\S+)", text, re.M)[1]
            resource = PLURALS.get(kind, kind.lower() + "s")
            at = (
                f"/{'apis' if '/' in group else 'api'}/{group}"
                + (f"/namespaces/{space[1]}" if space else "")
                + f"/{resource}/{name}"
            )
            query = urllib.parse.urlencode(
                {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict", **options}
            )
            status, said = self.ask("PATCH", f"{at}?{query}", text, kind="application/apply-patch+yaml")
            assert status in (200, 201), said

    def pods(self, namespace="adit"):
        return self.get(f"/api/v1/namespaces/{namespace}/pods")["items"]

    def make(self, path, body):
        status, said = self.ask("POST", path, body)
        assert status in (201, 409), said

    def token(self, namespace, account):
        """For one of a ServiceAccount, as soon as there is one."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        wait_until(lambda: self.ask("POST", path, asked)[0] == 201, f"there is no ServiceAccount {account}", 60)
        return self.ask("POST", path, asked)[1]["status"]["token"]

    def account(self, namespace, name, rules):
        """A kubeconfig of one that may do just this."""
        rights, about = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}", {"metadata": {"name": name}}
        self.make(f"/api/v1/namespaces/{namespace}/serviceaccounts", about)
        self.make(f"{rights}/roles", {**about, "rules": rules})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.make(f"{rights}/rolebindings", {**about, "roleRef": role, "subjects": [subject]})
        return self.kubeconfig(name, self.token(namespace, name), namespace)

    @property
    def node(self):
        return self.get("/api/v1/nodes")["items"][0]

    def change_node(self, *changes, part=""):
        """Changes of JSON Patch."""
        path = f"/api/v1/nodes/{self.node['metadata']['name']}{part}"
        status, said = self.ask("PATCH", path, list(changes), kind="application/json-patch+json")
        assert status == 200, said

    def add_storage(self, count):
        """A class of storage that is the cluster's own choice, and volumes of it: folders of the node."""
        about = {"name": "folders", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        mode = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "kubernetes.io/no-provisioner"}
        self.make("/apis/storage.k8s.io/v1/storageclasses", {"metadata": about, **mode})
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node["metadata"]["name"]]}
        for _ in range(count):
            self.stored += 1
            folder = self.at("storage", str(self.stored))
            os.makedirs(folder)
            spec = {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "storageClassName": "folders",
                "local": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            }
            self.make("/api/v1/persistentvolumes", {"metadata": {"name": f"folder-{self.stored}"}, "spec": spec})

    def kubectl(self, *words, **options):
        """As a user has it."""
        env = {**os.environ, "PATH": PATH, "KUBECONFIG": self.admin, "HOME": self.folder}
        done = subprocess.run(["kubectl", *words], env=env, capture_output=True, text=True, **options)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    # --- its end ---

    def close(self):
        for program in reversed(self.programs):
            program.send_signal(signal.SIGTERM)
            if program is self.programs[-1]:  # the kubelet, before what it needs
                program.wait(START_S)
        for program in self.programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(10)
            program.kill()
            program.wait(START_S)
        self._remains.stdin.close()
        self._remains.wait(START_S)
