//! Tokio's traits on a thread that waits on the completion port itself, with Tokio nowhere else:
//! `npipe::block_on` for the body, `npipe::spawn` for what runs beside it. So the bodies' tasks are
//! on two threads, with a port each.

use super::on_tokio::TokioStream;
use super::*;

pub(crate) struct Port;

impl Family for Port {
    async_family!(TokioStream);

    const TASKS_END_WITH_BLOCK_ON: bool = false;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        npipe::block_on(future)
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin {
        npipe::spawn(future)
    }
}

async_listening_family!(Port, TokioStream);

impl NonBlockingFamily for Port {}

impl AsyncFamily for Port {}
