//! The connections that are served, and which one goes when all places are taken.
//!
//! Everyone on this machine can connect, but only the page has the cookie. So a connection without it, the oldest
//! first, gives its place to the one that comes; where all have shown it, the one that comes is closed.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, Id, JoinSet};

/// Tells whether a connection has shown the cookie.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that there are. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    tasks: JoinSet<()>,
    open: HashMap<Id, (u64, Known, AbortHandle)>,
    next: u64,
}

impl Places {
    pub(crate) fn new(most: usize) -> Places {
        Places { most, tasks: JoinSet::new(), open: HashMap::new(), next: 0 }
    }

    /// Serves a connection; false, and nothing, where there is no place for it.
    pub(crate) async fn add(
        &mut self,
        known: Known,
        connection: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.open.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        while self.open.len() >= self.most {
            let strangers = self.open.values().filter(|(_, known, _)| !known.get());
            let Some((_, _, oldest)) = strangers.min_by_key(|(number, ..)| *number) else { return false };
            oldest.abort();
            if let Some(ended) = self.tasks.join_next_with_id().await {
                self.open.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
        let task = self.tasks.spawn(connection);
        self.open.insert(task.id(), (self.next, known, task));
        self.next += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strangers_give_way_and_the_page_does_not() {
        let mut places = Places::new(2);
        let forever = std::future::pending::<()>;
        let (page, stranger) = (Known::default(), Known::default());
        page.set();
        assert!(places.add(stranger, forever()).await);
        assert!(places.add(page.clone(), forever()).await);
        assert!(places.add(page.clone(), forever()).await, "the stranger has gone");
        assert!(!places.add(Known::default(), forever()).await);
        assert_eq!(places.open.len(), 2);
        assert!(places.open.values().all(|(_, known, _)| known.get()));
    }

    #[tokio::test]
    async fn a_connection_that_ended_leaves_its_place() {
        let mut places = Places::new(1);
        let known = Known::default();
        known.set();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let ends = async move { drop(told.await) };
        assert!(places.add(known.clone(), ends).await);
        assert!(!places.add(known.clone(), async {}).await);
        drop(tell);
        while !places.add(known.clone(), async {}).await {
            tokio::task::yield_now().await;
        }
    }
}
