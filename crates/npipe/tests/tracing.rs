//! What a subscriber of `tracing` is told of a connection.
#![cfg(all(windows, feature = "tracing"))]

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use npipe::{ClientOptions, ServerOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps the spans and events of npipe as lines, `end: message` with the fields behind it.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            "error" | "elapsed" => {}
            name => self.0 += &format!(" {name}={value:?}"),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "npipe"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        self.spans.lock().unwrap().push(format!("{}{}", span.metadata().name(), text.0));
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let span = event.parent().expect("an event has the span of its end").into_u64() as usize - 1;
        let span = self.spans.lock().unwrap()[span].clone();
        let end = if span.contains("server") { "server" } else { "client" };
        self.lines.lock().unwrap().push(format!("{end}: {}", text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

fn unique_name(purpose: &str) -> String {
    format!(r"\\.\pipe\npipe-tracing-{purpose}-{}", std::process::id())
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        npipe::block_on(async {
            let name = unique_name("async");
            let listener = ServerOptions::new().listen(&name).unwrap();
            let client = ClientOptions::new().open(&name).unwrap();
            let server = listener.accept().await.unwrap();
            assert_eq!(lines.take(), ["client: opened", "server: opened", "server: connected"]);
            assert!(lines.spans.lock().unwrap().iter().all(|span| span.contains(&name)));

            for _ in 0..1000 {
                client.write_owned(b"data"[..].into()).await.unwrap();
                assert_eq!(server.read_owned(bytes::BytesMut::new()).await.unwrap(), b"data"[..]);
            }
            assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            assert_eq!(lines.take(), [""; 0], "nothing while data flows");

            drop(server);
            assert_eq!(lines.take(), ["server: closed lingers=false"]);
            client.closed().await.unwrap();
            client.write_owned(b"lost"[..].into()).await.unwrap_err();
            assert_eq!(lines.take(), ["client: failed operation=\"write\" code=232"]);
            drop(client);
            assert_eq!(lines.take(), ["client: closed lingers=false"]);
        });
    });
}

#[test]
fn so_is_one_of_threads() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let name = unique_name("blocking");
        let listener = ServerOptions::new().listen_blocking(&name).unwrap();
        let client = ClientOptions::new().connect_blocking(&name).unwrap();
        let server = listener.accept().unwrap();
        drop(server);
        std::io::Write::write(&mut &client, b"lost").unwrap_err();
        drop(client);
        let connected = ["client: opened", "client: connected", "server: opened", "server: connected"];
        let ended = [
            "server: closed lingers=false",
            "client: failed operation=\"write\" code=232",
            "client: closed lingers=false",
        ];
        assert_eq!(lines.take(), [&connected[..], &ended].concat());
    });
}

#[test]
fn so_is_one_of_a_poll() {
    use npipe::readiness::{Interest, NamedPipe, Poll, Token};

    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let name = unique_name("readiness");
        let poll = Poll::new().unwrap();
        let mut server = NamedPipe::new(&name).unwrap();
        assert_eq!(lines.take(), ["server: opened"], "before it is registered");
        let mut client = NamedPipe::open(&ClientOptions::new(), &name).unwrap();
        poll.registry().register(&mut server, Token(0), Interest::READABLE).unwrap();
        server.connect().unwrap();
        server.connect().unwrap();
        poll.registry().register(&mut client, Token(1), Interest::WRITABLE).unwrap();
        assert_eq!(lines.take(), ["client: opened", "server: connected"]);
        assert!(lines.spans.lock().unwrap().iter().all(|span| span.contains(&name)));
        drop(server);
        std::io::Write::write(&mut &client, b"lost").unwrap_err();
        drop(client);
        drop(NamedPipe::new(&name).unwrap());
        let ended = [
            "server: closed lingers=false",
            "client: failed operation=\"write\" code=232",
            "client: closed lingers=false",
            "server: opened",
            "server: closed lingers=false",
        ];
        assert_eq!(lines.take(), ended);
    });
}
