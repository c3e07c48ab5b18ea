//! Connections that tonic's server takes, by the feature `tonic`.

use tonic::transport::server::Connected;

use crate::{NamedPipeServer, PipeConnectInfo};

/// For `serve_with_incoming`: services find the client in the extensions of a request.
impl Connected for NamedPipeServer {
    type ConnectInfo = PipeConnectInfo;

    fn connect_info(&self) -> PipeConnectInfo {
        PipeConnectInfo::of(self)
    }
}
