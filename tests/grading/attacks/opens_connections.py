"""Connects to TCP ports, names, Unix sockets in files and in no file, and sends packets. Against the network."""

ANSWERS = {
    "q1": """@RIGHT@
import os, socket, urllib.request

def tcp(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        s.connect((host, port) if family != socket.AF_UNIX else host)
        return s.recv(99)

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", ("8.8.8.8", 53))

reached = []
for what in (
    lambda: tcp("127.0.0.1", @PORT@), lambda: tcp("localhost", @PORT@), lambda: tcp("::1", @PORT@, socket.AF_INET6),
    lambda: tcp("1.1.1.1", 443), lambda: tcp("@COURSE@/grader.sock", 0, socket.AF_UNIX),
    lambda: tcp("\\0grading-@PID@", 0, socket.AF_UNIX), udp,
    lambda: urllib.request.urlopen("http://example.org", timeout=1),
    lambda: socket.getaddrinfo("example.org", 80), lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), lambda: socket.socket(40, socket.SOCK_STREAM),
):
    try:
        reached.append(what())
    except OSError:
        pass
print("reached", reached)
"""
}
SAYS = r"reached \[\]"
