"""A real mail server, small: takes messages from whoever knows the password, and can refuse."""

import base64
import email
import email.policy
import socketserver
import threading
from email.message import EmailMessage

USER, PASSWORD = "cflow", "hunter2-mail"


class MailServer:
    """Listens at one port, whatever happens to it.

    Attributes:
        taken: messages in order.
        refuses: called with a message; whether it is answered with a lasting error.
    """

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.refuses = lambda message: False
        self.port = 0
        self._server: socketserver.ThreadingTCPServer | None = None

    @property
    def url(self) -> str:
        people = "from=cflow@example.org&to=guard@example.org"
        return f"mailto://{USER}:{PASSWORD}@127.0.0.1:{self.port}?{people}&smtp=127.0.0.1&mode=insecure&format=text"

    def start(self) -> "MailServer":
        mail = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 test")
                while line := self.rfile.readline().decode().strip():
                    word = line.split()[0].upper()
                    if word == "EHLO":
                        self.say("250-test\r\n250 AUTH PLAIN")
                    elif word == "AUTH":
                        given = base64.b64decode(line.split()[2]).split(b"\0")
                        self.say("235 ok" if given[1:] == [USER.encode(), PASSWORD.encode()] else "535 wrong password")
                    elif word == "DATA":
                        self.say("354 go on")
                        self.say("550 no" if mail.refuses(message := self.message()) else "250 ok")
                        if not mail.refuses(message):
                            mail.taken.append(message)
                    else:
                        self.say("221 bye" if word == "QUIT" else "250 ok")
                    if word == "QUIT":
                        return

            def message(self) -> EmailMessage:
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
                return email.message_from_bytes(b"".join(lines), policy=email.policy.default)

            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Session)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in list(self.taken)]


def attached(message: EmailMessage) -> list[bytes]:
    """What is attached to a message."""
    return [part.get_content() for part in message.iter_attachments()]


def text(message: EmailMessage) -> str:
    """Its text."""
    return message.get_body(("plain",)).get_content()
