"""One thing that is asked of subjects, and what its figures are."""
import os

KINDS = ("tls", "raw")


class Workload:
    """`figures` are what its table shows beside their ratio to the direct connection: (key, title, digits).
    `parts` are figures that there is one of for each role: (prefix of the key, what the column's title begins with,
    digits)."""
    group, scene, kinds, figures, parts = "", "here", KINDS, (), (("cpu ", "", None),)
    rounds_most = None                 # where a figure does not scatter, or takes long to have
    warms = False                      # enough of a first round where there is little time
    absolute = ("count",)              # figures that no ratio is made of

    def __init__(self, name, title, **options):
        self.name, self.title = name, title
        self.__dict__.update(options)

    def takes(self, run, subject):
        """Whether it makes sense for this subject."""
        return True

    def run(self, run, subject):
        raise NotImplementedError


def costs(result, done, unit_s=1):
    """What everybody's processor time comes to for each thing done, in 1/unit_s seconds: of each role, of the visitors,
    of all."""
    roles = {**result.get("roles_s", {}), "visitor": result.get("cpu_s", 0)}
    figures = {f"cpu {role}": seconds / done * unit_s for role, seconds in roles.items()}
    figures["cpu all"] = sum(roles.values()) / done * unit_s
    return figures


def visitor_share(result):
    """Of the machine's processors, while it was measured."""
    return result["cpu_s"] / result["seconds"] / os.cpu_count() if result["seconds"] else 0
