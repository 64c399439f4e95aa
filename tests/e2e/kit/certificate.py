"""An operator's own certificates in files, as an ACME client leaves them."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY_S = 24 * 3600


class Identity:
    def __init__(self, subject, issuer=None, names=(), ip=(), authority=False, rsa_key=False, curve=ec.SECP256R1,
                 begins_s=-3600, ends_s=20 * DAY_S):
        """Valid from begins_s until ends_s from now. Without an issuer it is its own."""
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        self.key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(curve())
        signer, now = issuer or self, datetime.datetime.utcnow()
        self.serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(self.serial)
            .not_valid_before(now + datetime.timedelta(seconds=begins_s))
            .not_valid_after(now + datetime.timedelta(seconds=ends_s))
        )
        if authority:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if names or ip:
            alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address(address))
                                                                     for address in ip]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()


class OwnCertificate:
    """An authority, one below it, and a certificate for r1.test under either."""

    def __init__(self, box):
        self.box, self.root = box, Identity("our authority", authority=True)
        self.between = Identity("our intermediate", self.root, authority=True)
        self.ca = box.file("ca.pem", self.root.pem)
        self.cert, self.key = box.file("cert.pem"), box.file("cert.key")
        self.issue()

    def put(self, path, text):
        """By rename, as a careful program does it."""
        os.rename(self.box.file("new", text), path)

    def issue(self, names=("r1.test", "*.r1.test"), chain="leaf root", below=False, self_signed=False, **options):
        """Puts a new certificate and key in place. chain is what goes into the file: leaf, between, root; what stands
        between leaf and root has issued the leaf if it is there, or if it is below. Returns the serial number."""
        parts = chain.split()
        issuer = None if self_signed else self.between if below or "between" in parts else self.root
        leaf = Identity("r1.test", issuer, names, **options)
        self.leaf = leaf
        self.put(self.key, leaf.key_pem)
        self.put(self.cert,
                 "".join({"leaf": leaf, "between": self.between, "root": self.root}[part].pem for part in parts))
        return leaf.serial
