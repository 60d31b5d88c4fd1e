//! Threads for requests that may have to wait for a server. Each request has a deadline after which it fails, so that
//! no process waits forever: a process in an unanswered look-up cannot even be killed.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most threads. Each holds a reply of up to 1 MiB while it sends it.
const MAX_THREADS: usize = 16;
const STACK: usize = 512 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// The pool of one mount. Its threads end with the process.
pub(super) struct Pool {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    state: Mutex<Requests>,
    work: Condvar,
    /// The most threads.
    threads: usize,
}

#[derive(Default)]
struct Requests {
    waiting: VecDeque<(u64, Job)>,
    idle: usize,
    threads: usize,
    next: u64,
    /// Requests that were not answered yet: since when, and how to refuse them.
    pending: HashMap<u64, (Instant, Job)>,
}

impl Pool {
    /// A pool whose requests are answered within `deadline`.
    ///
    /// # Errors
    /// The system's: no thread can be started.
    pub(super) fn start(deadline: Duration) -> std::io::Result<Pool> {
        Pool::start_with(deadline, MAX_THREADS)
    }

    /// [`Pool::start`], with at most `threads` threads.
    ///
    /// # Errors
    /// The system's: no thread can be started.
    pub(super) fn start_with(deadline: Duration, threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), threads });
        let watched = shared.clone();
        let watch = move || loop {
            std::thread::sleep((deadline / 4).min(Duration::from_secs(1)));
            watched.refuse_late(deadline);
        };
        std::thread::Builder::new().name("deadlines".into()).stack_size(STACK).spawn(watch)?;
        Ok(Pool { shared, deadline })
    }

    /// How long a request may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Answers with the result of `work`, which a thread of the pool runs. If that takes longer than the deadline,
    /// answers with `refuse`. Only one of the two gets the reply.
    pub(super) fn answer<R: Send + 'static, T>(
        &self,
        reply: R,
        work: impl FnOnce() -> T + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
        refuse: impl FnOnce(R) + Send + 'static,
    ) {
        let reply = Arc::new(Mutex::new(Some(reply)));
        let late = reply.clone();
        let refuse: Job = Box::new(move || {
            let reply = late.lock().take();
            if let Some(reply) = reply {
                refuse(reply);
            }
        });
        let job: Job = Box::new(move || {
            let answer = work();
            let reply = reply.lock().take();
            if let Some(reply) = reply {
                send(reply, answer);
            }
        });
        self.shared.clone().submit(job, refuse);
    }
}

impl Shared {
    fn submit(self: Arc<Self>, job: Job, refuse: Job) {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, (Instant::now(), refuse));
        state.waiting.push_back((id, job));
        if state.idle >= state.waiting.len() || state.threads >= self.threads {
            drop(state);
            self.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.clone();
        // If no thread can be started, the existing ones do it.
        if std::thread::Builder::new().name("requests".into()).stack_size(STACK).spawn(move || shared.work()).is_err() {
            self.state.lock().threads -= 1;
            self.work.notify_one();
        }
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            match state.waiting.pop_front() {
                Some((id, job)) => {
                    // It was refused while it waited, so the answer is not needed.
                    if !state.pending.contains_key(&id) {
                        continue;
                    }
                    drop(state);
                    // A panic drops the reply, which answers EIO.
                    drop(catch_unwind(AssertUnwindSafe(job)));
                    state = self.state.lock();
                    let done = state.pending.remove(&id);
                    drop(done);
                }
                None => {
                    state.idle += 1;
                    self.work.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }

    fn refuse_late(&self, deadline: Duration) {
        let mut state = self.state.lock();
        let late: Vec<u64> =
            state.pending.iter().filter(|(_, (since, _))| since.elapsed() >= deadline).map(|(id, _)| *id).collect();
        let refusals: Vec<Job> =
            late.iter().filter_map(|id| state.pending.remove(id)).map(|(_, refuse)| refuse).collect();
        drop(state);
        refusals.into_iter().for_each(|refuse| refuse());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_comes_in_time_is_sent_and_what_is_late_is_refused_once() {
        let pool = Pool::start(Duration::from_millis(200)).unwrap();
        let (tell, hear) = mpsc::channel();
        let (free, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        pool.answer(
            tell.clone(),
            move || blocked.lock().recv().is_ok(),
            |to, _| to.send("late").unwrap(),
            |to| to.send("refused").unwrap(),
        );
        pool.answer(
            tell.clone(),
            || 5,
            |to, n| to.send(if n == 5 { "sent" } else { "wrong" }).unwrap(),
            |to| to.send("refused").unwrap(),
        );
        assert_eq!(hear.recv_timeout(Duration::from_secs(5)), Ok("sent"), "it does not wait for the one before it");
        assert_eq!(hear.recv_timeout(Duration::from_secs(5)), Ok("refused"));
        free.send(()).unwrap();
        assert!(hear.recv_timeout(Duration::from_millis(300)).is_err(), "an answer after the refusal goes nowhere");
    }

    #[test]
    fn with_every_thread_stuck_the_rest_is_refused_too_and_the_threads_are_bounded() {
        let pool = Pool::start(Duration::from_millis(100)).unwrap();
        let (tell, hear) = mpsc::channel();
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock();
        for _ in 0..3 * MAX_THREADS {
            let gate = gate.clone();
            pool.answer(
                tell.clone(),
                move || drop(gate.lock()),
                |to, ()| to.send(true).unwrap(),
                |to| to.send(false).unwrap(),
            );
        }
        for _ in 0..3 * MAX_THREADS {
            assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok(false));
        }
        assert!(pool.shared.state.lock().threads <= MAX_THREADS);
        drop(closed);
        pool.answer(tell, || (), |to, ()| to.send(true).unwrap(), |to| to.send(false).unwrap());
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok(true), "it continues when the store answers again");
    }
}
