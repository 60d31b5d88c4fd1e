//! The runtime on which requests run: one for each process, made when it is first needed. A forked child makes its own.

use super::source::{Attempt, Fault};
use crate::locks::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that move bytes. The threads of readers wait.
const THREADS: usize = 2;

static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::of_process(None, || None);

fn runtime() -> Attempt<Arc<Runtime>> {
    let mut held = RUNTIME.lock();
    if let Some(runtime) = &*held {
        return Ok(runtime.clone());
    }
    // If the program has chosen another one, that is used.
    drop(rustls::crypto::ring::default_provider().install_default());
    let built = Builder::new_multi_thread().worker_threads(THREADS).thread_name("cairn-remote").enable_all().build();
    let runtime = Arc::new(built.map_err(|e| Fault::Refused(format!("no threads for requests: {e}")))?);
    Ok(held.insert(runtime).clone())
}

/// Runs what `make` returns, and waits for it at most `within`. Can be called from a program that is on a runtime of
/// its own.
pub(super) fn wait<T, F>(within: Duration, make: impl FnOnce() -> F + Send) -> Attempt<T>
where
    T: Send,
    F: Future<Output = Attempt<T>>,
{
    let runtime = runtime()?;
    let run = || {
        runtime.block_on(async {
            let late = || Fault::Passing(format!("no complete answer within {:.1} s", within.as_secs_f64()));
            tokio::time::timeout(within, make()).await.unwrap_or_else(|_| Err(late()))
        })
    };
    if Handle::try_current().is_err() {
        return run();
    }
    std::thread::scope(|s| {
        let panicked = || Err(Fault::Refused("the thread of a request panicked".into()));
        s.spawn(run).join().unwrap_or_else(|_| panicked())
    })
}
