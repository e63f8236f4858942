use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::{Daemon, PATIENCE};

/// An answer of the control interface.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body of a failure.
    #[track_caller]
    pub fn error(&self) -> vmlan_api::Error {
        assert_ne!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Reads an answer that the other side ends by closing the connection; `None` when it closed without one.
    pub fn read(stream: &mut UnixStream) -> Option<Answer> {
        let mut octets = Vec::new();
        // A connection that is reset behind the answer has answered.
        let _ = stream.read_to_end(&mut octets);
        let text = String::from_utf8_lossy(&octets);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Answer { status, body: body.to_owned() })
    }
}

impl Daemon {
    /// A connection to the control socket.
    #[track_caller]
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.control()).expect("the control socket answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let mut stream = self.connect();
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: vmlan\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()))
            .expect("a request");
        Answer::read(&mut stream).unwrap_or_else(|| panic!("no answer to {method} {path}\n{}", self.log()))
    }

    #[track_caller]
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.request("GET", path, None).json()
    }

    /// Follows the events from now on.
    #[track_caller]
    pub fn events(&self) -> Events {
        let mut stream = self.connect();
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").expect("a request");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        // The end of the header: the subscription is made before it is sent.
        while line != "\r\n" {
            line.clear();
            assert_ne!(reader.read_line(&mut line).expect("a header"), 0, "no event stream");
        }
        Events { reader }
    }
}

/// An event stream.
pub struct Events {
    reader: BufReader<UnixStream>,
}

impl Events {
    /// The next event; `None` when the stream ends.
    #[track_caller]
    pub fn next(&mut self) -> Option<vmlan_api::EventKind> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("an event before the time is over") == 0 {
                return None;
            }
            // What is no object is the length of a chunk, or its end.
            if line.starts_with('{') {
                let event: vmlan_api::Event =
                    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                return Some(event.kind);
            }
        }
    }

    /// Waits for an event that `wanted` accepts; those before it are dropped.
    #[track_caller]
    pub fn expect(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&vmlan_api::EventKind) -> bool,
    ) -> vmlan_api::EventKind {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < deadline
            && let Some(event) = self.next()
        {
            if wanted(&event) {
                return event;
            }
            seen.push(event);
        }
        panic!("no event: {what}; instead {seen:#?}");
    }
}
