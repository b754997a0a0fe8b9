//! Entries that a new policy leaves behind: they would stay in the table for up to five days, and their packets no
//! longer refresh them.
//!
//! Looking through hundreds of thousands of entries takes seconds in which the agent has to go on: all of it is done by
//! a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use notrack_core::nf::Table;
use notrack_netlink::socket::NetlinkError;

mod work;

/// What there is to do with the entries of a table.
#[derive(Clone, Debug)]
enum Task {
    /// Delete those whose packets are bypassed.
    Sweep,
    /// Count what these policies, in mode Audit, would have deleted in mode Enforce.
    Count(BTreeSet<String>),
}

/// What became of a task.
#[derive(Debug)]
pub enum Done {
    /// How many entries were deleted, and the error that ended it early.
    Swept(u64, Option<NetlinkError>),
    /// How many entries each policy would evict; `None` where another table came in between.
    Counted(Result<Option<BTreeMap<String, u64>>, NetlinkError>),
}

/// Stops the tasks for a table that is about to be replaced.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// How often everything was stopped: tasks of before do nothing more.
    stops: AtomicU64,
    /// Held while entries are deleted.
    deleting: Mutex<()>,
}

impl Stop {
    /// Once this returns nothing is deleted that was asked for before.
    pub fn all(&self) {
        self.0.stops.fetch_add(1, Ordering::SeqCst);
        drop(self.0.deleting.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self) -> u64 {
        self.0.stops.load(Ordering::SeqCst)
    }
}

/// A task as of its order.
#[derive(Clone, Copy, Debug)]
struct Valid<'a> {
    stop: &'a Stop,
    stops: u64,
}

impl Valid<'_> {
    fn is_valid(self) -> bool {
        self.stop.count() == self.stops
    }

    /// Deletes, unless it is too late for that.
    fn delete<T>(self, delete: impl FnOnce() -> T) -> Option<T> {
        let _held = self.stop.0.deleting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_valid().then(delete)
    }
}

/// The thread that evicts.
#[derive(Debug)]
pub struct Eviction {
    tasks: Sender<(u64, Arc<Table>, Task)>,
    done: Receiver<Done>,
    stop: Stop,
    /// Tasks that have not come back.
    open: usize,
}

impl Eviction {
    /// Starts it, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start() -> io::Result<Eviction> {
        let (tasks, ordered) = mpsc::channel::<(u64, Arc<Table>, Task)>();
        let (tell, done) = mpsc::channel();
        let stop = Stop::default();
        let known = stop.clone();
        thread::Builder::new().name("eviction".to_owned()).spawn(move || {
            for (stops, table, task) in ordered {
                let valid = Valid { stop: &known, stops };
                let done = match task {
                    Task::Sweep => {
                        let (deleted, outcome) = work::sweep(&table, valid);
                        Done::Swept(deleted, outcome.err())
                    }
                    Task::Count(audited) => Done::Counted(work::evictable(&table, &audited, valid)),
                };
                if tell.send(done).is_err() {
                    break;
                }
            }
        })?;
        Ok(Eviction { tasks, done, stop, open: 0 })
    }

    /// What ends everything that is under way.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Has the entries deleted whose packets this table bypasses.
    pub fn sweep(&mut self, table: Arc<Table>) {
        self.order(table, Task::Sweep);
    }

    /// Has the entries counted that policies in mode Audit would evict.
    pub fn count(&mut self, table: Arc<Table>, audited: BTreeSet<String>) {
        self.order(table, Task::Count(audited));
    }

    fn order(&mut self, table: Arc<Table>, task: Task) {
        match self.tasks.send((self.stop.count(), table, task)) {
            Ok(()) => self.open += 1,
            Err(_) => tracing::error!("nothing is evicted any more: that thread has ended"),
        }
    }

    /// The next task that is done, waiting until then for one.
    pub fn next(&mut self, until: Instant) -> Option<Done> {
        if self.open == 0 {
            return None;
        }
        let done = self.done.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
        self.open -= 1;
        Some(done)
    }

    /// Whether a task has not come back.
    pub fn is_busy(&self) -> bool {
        self.open > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_deleted_once_it_is_stopped() {
        let stop = Stop::default();
        let valid = Valid { stop: &stop, stops: stop.count() };
        assert_eq!(valid.delete(|| 1), Some(1));
        stop.all();
        assert_eq!(valid.delete(|| 2), None);
        assert!(!valid.is_valid());
    }

    #[test]
    fn a_stop_waits_for_what_is_being_deleted() {
        let stop = Stop::default();
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let ended = AtomicU64::new(0);
        thread::scope(|scope| {
            let (stop, ended) = (&stop, &ended);
            scope.spawn(move || {
                let valid = Valid { stop, stops: 0 };
                valid.delete(|| {
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                    ended.store(1, Ordering::SeqCst);
                })
            });
            has_begun.recv().unwrap();
            scope.spawn(move || {
                // Seen by whoever deletes, though the stop itself still waits.
                while stop.count() == 0 {
                    thread::yield_now();
                }
                end.send(()).unwrap();
            });
            stop.all();
            assert_eq!(ended.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn without_a_task_there_is_nothing_to_wait_for() {
        let mut eviction = Eviction::start().unwrap();
        assert!(eviction.next(Instant::now() + Duration::from_secs(3600)).is_none());
        assert!(!eviction.is_busy());
    }
}
