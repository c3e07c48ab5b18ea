//! gRPC over a named pipe: tonic serves its health service to a client of its own.
//!
//!     cargo run --example tonic
//!
//! A server takes its clients from `into_incoming`, and services find the client's process in the
//! extensions of a request, as a `PipeConnectInfo`. A client is given a connector.

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use npipe::{PipeConnectInfo, PipeConnector, ServerOptions};
    use tokio::sync::oneshot;
    use tonic::Request;
    use tonic::service::interceptor::InterceptedService;
    use tonic::transport::{Endpoint, Server};
    use tonic_health::ServingStatus;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    let name = format!(r"\\.\pipe\npipe-tonic-{}", std::process::id());
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("orchard", ServingStatus::Serving).await;
    let service = InterceptedService::new(service, |request: Request<()>| {
        let client = request.extensions().get::<PipeConnectInfo>().map(PipeConnectInfo::process_id);
        println!("asked by this process: {}", matches!(client, Some(Ok(id)) if id == std::process::id()));
        Ok(request)
    });
    let incoming = ServerOptions::new().listen(&name)?.into_incoming();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, async {
            drop(stopped.await);
        }));

    // The address says nothing over a pipe, but there has to be one.
    let channel =
        Endpoint::from_static("http://pipe").connect_with_connector(PipeConnector::new(&name)?).await?;
    let mut client = HealthClient::new(channel);
    for service in ["orchard", "kitchen"] {
        match client.check(HealthCheckRequest { service: service.into() }).await {
            Ok(answer) => println!("{service}: {:?}", answer.into_inner().status()),
            Err(status) => println!("{service}: {}", status.message()),
        }
    }

    drop((client, stop));
    serving.await??;
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
