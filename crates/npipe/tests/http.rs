//! HTTP over pipes: `axum::serve` on a listener, pooled clients, and hyper's tasks on an executor
//! of this crate.
#![cfg(all(windows, feature = "axum", feature = "hyper-util"))]

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::serve::Listener;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor as _;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use npipe::{ClientOptions, PipeConnectInfo, PipeConnector, PipeExecutor, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Notify, oneshot};

type Pooled = Client<PipeConnector, Empty<Bytes>>;

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-http-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs the body of a test on Tokio's runtime of one thread, for a minute at most.
fn run(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a Tokio runtime can be built")
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(60), body).await.expect("the test hangs")
        });
}

fn client(name: &str) -> Pooled {
    Client::builder(TokioExecutor::new()).build(PipeConnector::new(name).unwrap())
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn ask(client: &Pooled, path: &str) -> String {
    let response = client.get(format!("http://pipe{path}").parse().unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    text(response).await
}

#[test]
fn axum_goes_on_when_a_client_leaves_at_once_or_within_its_request() {
    run(async {
        let name = unique_name();
        let listener = ServerOptions::new().backlog(2).listen(&name).unwrap();
        let router = Router::new().route("/", get(async || "served"));
        let serving = tokio::spawn(async { axum::serve(listener, router).await });
        for _ in 0..5 {
            drop(ClientOptions::new().connect(&name).await.unwrap());
            let mut leaving = ClientOptions::new().connect(&name).await.unwrap();
            leaving.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
            drop(leaving);
            assert_eq!(ask(&client(&name), "/").await, "served");
        }
        assert!(!serving.is_finished());
        serving.abort();
    });
}

#[test]
fn the_accept_of_a_closed_listener_waits_and_is_not_woken() {
    run(async {
        let mut listener = ServerOptions::new().listen(unique_name()).unwrap();
        listener.close();
        let mut accepting = tokio_test::task::spawn(Listener::accept(&mut listener));
        assert!(accepting.poll().is_pending());
        assert!(!accepting.is_woken());
    });
}

#[test]
fn axum_knows_the_pipe_by_its_name() {
    run(async {
        let name = unique_name();
        let mut listener = ServerOptions::new().listen(&name).unwrap();
        let expected = listener.local_name().clone();
        assert_eq!(Listener::local_addr(&listener).unwrap(), expected);
        let _client = ClientOptions::new().connect(&name).await.unwrap();
        let (_, address) = Listener::accept(&mut listener).await;
        assert_eq!(address, expected);
    });
}

#[test]
fn handlers_learn_the_process_and_the_user_of_their_client() {
    async fn whoami(ConnectInfo(client): ConnectInfo<PipeConnectInfo>) -> String {
        let session = client.peer().unwrap().session_id();
        format!("{} {} {session}", client.process_id().unwrap(), client.user().unwrap())
    }
    run(async {
        let name = unique_name();
        let listener = ServerOptions::new().listen(&name).unwrap();
        let router = Router::new().route("/", get(whoami));
        let service = router.into_make_service_with_connect_info::<PipeConnectInfo>();
        tokio::spawn(async { axum::serve(listener, service).await });
        let pipe = ClientOptions::new().connect(&name).await.unwrap();
        // The server runs in this process, as this user.
        let server = pipe.peer().unwrap();
        let expected = format!("{} {} {}", std::process::id(), server.user().unwrap(), server.session_id());
        assert_eq!(ask(&client(&name), "/").await, expected);
    });
}

#[test]
fn the_client_of_an_end_that_has_none_is_an_error() {
    run(async {
        let server = ServerOptions::new().create(unique_name()).unwrap();
        let expected = server.peer().unwrap_err();
        let info = PipeConnectInfo::of(&server);
        for error in [
            info.peer().map(drop).unwrap_err(),
            info.process_id().map(drop).unwrap_err(),
            info.user().unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), expected.raw_os_error());
            assert_eq!(error.kind(), expected.kind());
        }
    });
}

#[test]
fn a_graceful_stop_answers_the_request_that_was_accepted() {
    run(async {
        let name = unique_name();
        let listener = ServerOptions::new().listen(&name).unwrap();
        let [began, go_on] = [(); 2].map(|()| Arc::new(Notify::new()));
        let handler = {
            let (began, go_on) = (began.clone(), go_on.clone());
            async move || {
                began.notify_one();
                go_on.notified().await;
                "answered"
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async {
            axum::serve(listener, Router::new().route("/", get(handler)))
                .with_graceful_shutdown(async { drop(stopped.await) })
                .await
        });
        let client = client(&name);
        let asking = tokio::spawn(async move { ask(&client, "/").await });
        began.notified().await;
        drop(stop);
        // The name is gone when the connection has ended, and no instance waits until then.
        while let Ok(client) = ClientOptions::new().open(&name) {
            drop(client);
            tokio::task::yield_now().await;
        }
        assert!(!serving.is_finished());
        go_on.notify_one();
        assert_eq!(asking.await.unwrap(), "answered");
        serving.await.unwrap().unwrap();
    });
}

/// A server that answers with the number of the connection. It closes the connection after `/last`,
/// and answers `/together` when two such requests have come.
fn serve(name: &str) -> Arc<AtomicUsize> {
    let listener = ServerOptions::new().listen(name).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let both = Arc::new(Barrier::new(2));
    tokio::spawn(async move {
        loop {
            let pipe = listener.accept().await.unwrap();
            let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
            let both = both.clone();
            let answer = move |request: Request<Incoming>| {
                let both = both.clone();
                async move {
                    let mut response = Response::new(number.to_string());
                    match request.uri().path() {
                        "/last" => {
                            drop(response.headers_mut().insert("connection", "close".parse().unwrap()))
                        }
                        "/together" => {
                            both.wait().await;
                        }
                        _ => {}
                    }
                    Ok::<_, Infallible>(response)
                }
            };
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(pipe), service_fn(answer)));
        }
    });
    connections
}

#[test]
fn requests_one_after_the_other_share_a_connection() {
    run(async {
        let name = unique_name();
        let connections = serve(&name);
        let client = client(&name);
        for _ in 0..10 {
            assert_eq!(ask(&client, "/").await, "1");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn requests_at_the_same_time_have_a_connection_each() {
    run(async {
        let name = unique_name();
        serve(&name);
        let client = client(&name);
        let (first, second) = tokio::join!(ask(&client, "/together"), ask(&client, "/together"));
        let mut numbers = [first, second];
        numbers.sort();
        assert_eq!(numbers, ["1", "2"]);
    });
}

#[test]
fn a_connection_that_the_server_has_closed_is_replaced() {
    run(async {
        let name = unique_name();
        let connections = serve(&name);
        let client = client(&name);
        assert_eq!(ask(&client, "/last").await, "1");
        assert_eq!(ask(&client, "/").await, "2");
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_connector_has_the_options_that_it_was_given() {
    run(async {
        let mut options = ClientOptions::new();
        options.connect_timeout(Some(Duration::ZERO));
        let connector = PipeConnector::with_options(unique_name(), options).unwrap();
        let client: Pooled = Client::builder(TokioExecutor::new()).build(connector);
        let error = client.get("http://pipe/".parse().unwrap()).await.unwrap_err();
        assert!(error.is_connect());
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::NotFound));
    });
}

#[test]
fn a_connector_is_refused_for_a_name_that_no_pipe_can_have() {
    assert_eq!(PipeConnector::new("").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn requests_run_on_the_executor_of_the_process_or_on_one_of_ones_own() {
    let own = Arc::new(npipe::Executor::new(1).unwrap());
    for executor in [PipeExecutor::new(), PipeExecutor::from(own.clone())] {
        run(async {
            let name = unique_name();
            serve(&name);
            let (done, told) = oneshot::channel();
            let client: Pooled = Client::builder(executor.clone()).build(PipeConnector::new(&name).unwrap());
            executor.execute(async move {
                let answers = [ask(&client, "/").await, ask(&client, "/").await];
                let _ = done.send((answers, std::thread::current().id()));
            });
            let (answers, thread) = told.await.unwrap();
            assert_eq!(answers, ["1", "1"]);
            assert_ne!(thread, std::thread::current().id());
        });
    }
}

#[test]
fn tasks_run_on_the_executor_that_was_given() {
    let own = Arc::new(npipe::Executor::new(1).unwrap());
    npipe::block_on(async {
        let expected = own.spawn(async { std::thread::current().id() }).await;
        let (done, told) = oneshot::channel();
        PipeExecutor::from(own.clone()).execute(async {
            let _ = done.send(std::thread::current().id());
        });
        assert_eq!(told.await.unwrap(), expected);
    });
}

#[tokio::test]
async fn a_request_may_be_given_up_while_it_connects() {
    let name = unique_name();
    let server = ServerOptions::new().max_instances(1).create(&name).unwrap();
    let mut holder = ClientOptions::new().connect(&name).await.unwrap();
    server.connect().await.unwrap();
    let client = client(&name);
    {
        let mut asking = tokio_test::task::spawn(client.get("http://pipe/".parse().unwrap()));
        assert!(asking.poll().is_pending());
    }
    holder.write_all(b"x").await.unwrap();
    let mut server = server;
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}
