use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmlan_drivers::Endpoint;
use vmlan_frame::{Mutex, PoolSizes, SlotMap};
use vmlan_sys::Waker;

use crate::command::{Command, Done, Notice, Polling, PortKey, PortSetup};
use crate::contain::message;
use crate::effort::{Effort, Ledger};
use crate::worker::Worker;

/// How the data plane is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many workers.
    pub workers: usize,
    /// Each worker's buffers.
    pub pool: PoolSizes,
}

impl Default for Options {
    fn default() -> Self {
        Options { workers: 1, pool: PoolSizes::default() }
    }
}

/// The running workers. Dropping it ends them at once; [`Plane::stop`] lets queues drain first.
pub struct Plane {
    workers: Vec<Thread>,
    /// The ports that there are.
    ports: Mutex<SlotMap<PortKey, ()>>,
    attachments: AtomicU64,
}

struct Thread {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    ledger: Arc<Ledger>,
    thread: Option<JoinHandle<()>>,
}

impl Plane {
    /// Starts the workers; `notify` is called from their threads and must not wait.
    ///
    /// # Errors
    /// No threads, descriptors or memory.
    pub fn start(options: Options, notify: impl Fn(Notice) + Send + Sync + 'static) -> io::Result<Plane> {
        let notify: Arc<dyn Fn(Notice) + Send + Sync> = Arc::new(notify);
        let workers =
            (0..options.workers.max(1)).map(|number| start_worker(number, options.pool, notify.clone()));
        let workers = workers.collect::<io::Result<_>>()?;
        Ok(Plane {
            workers,
            ports: Mutex::new(SlotMap::new(PortKey::MAX_PORTS)),
            attachments: AtomicU64::new(0),
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Tells what each worker has done, in the order of their numbers. Costs the workers nothing.
    pub fn efforts(&self) -> Vec<Effort> {
        self.workers.iter().map(|worker| worker.ledger.read()).collect()
    }

    /// Makes a port known to every worker. It has no attachment yet.
    pub fn add_port(&self, setup: &PortSetup) -> PortKey {
        let key = self.ports.lock().insert(()).expect("memory ends before slots do");
        self.tell_all(|_| Command::AddPort { key, setup: setup.clone() });
        key
    }

    /// Attaches a port to `endpoint`, in place of what it was attached to. Answers the attachment's number. The network
    /// may send to the port when it is done; nothing is received before [`Plane::open`].
    pub fn connect(&self, key: PortKey, endpoint: Arc<dyn Endpoint>, done: Done) -> u64 {
        let attachment = self.attachments.fetch_add(1, Ordering::Relaxed);
        // Ports whose medium has one queue are spread over the workers by their slot.
        let receiver = key.slot as usize % self.workers.len();
        self.tell_all(|worker| Command::Connect {
            key,
            attachment,
            endpoint: endpoint.clone(),
            receives: worker == receiver,
            _done: done.clone(),
        });
        attachment
    }

    /// Receives from an attachment from now on, if it is still the port's. For when the network sends to the port:
    /// whatever a guest says first may be answered at once.
    pub fn open(&self, key: PortKey, attachment: u64) {
        self.tell_all(|_| Command::Open { key, attachment });
    }

    /// Takes a port's attachment away.
    pub fn disconnect(&self, key: PortKey, done: Done) {
        self.tell_all(|_| Command::Disconnect { key, _done: done.clone() });
    }

    /// Removes a port.
    pub fn remove_port(&self, key: PortKey, done: Done) {
        self.tell_all(|_| Command::RemovePort { key, _done: done.clone() });
        self.ports.lock().remove(key);
    }

    /// Lets every worker wait in another way.
    pub fn set_polling(&self, polling: Polling) {
        self.tell_all(|_| Command::SetPolling { polling });
    }

    /// Receives nothing more, sends what waits for at most `patience`, and ends.
    pub fn stop(mut self, patience: Duration) {
        self.end(patience);
    }

    fn end(&mut self, patience: Duration) {
        self.tell_all(|_| Command::Stop { patience });
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                thread.join().expect("a worker catches its panics");
            }
        }
    }

    fn tell_all(&self, command: impl Fn(usize) -> Command) {
        for (number, worker) in self.workers.iter().enumerate() {
            // A worker ends only when the plane does.
            let _ = worker.commands.send(command(number));
            worker.waker.wake();
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn start_worker(
    number: usize,
    sizes: PoolSizes,
    notify: Arc<dyn Fn(Notice) + Send + Sync>,
) -> io::Result<Thread> {
    let waker = Arc::new(Waker::new()?);
    let (sender, receiver) = mpsc::channel();
    let poller = Worker::poller(&waker)?;
    let ledger = Arc::<Ledger>::default();
    let (inside, written) = (waker.clone(), ledger.clone());
    let run = move || {
        // Guests wait for it, and for no other thread of the process.
        vmlan_sys::priority::in_front();
        let mut worker = Worker::new(number, sizes, poller, inside, receiver, notify.clone(), written);
        // No panic is final.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run())) {
            let reason = message(&*panic);
            worker.effort.restarts += 1;
            let _ = catch_unwind(AssertUnwindSafe(|| worker.recover(&reason)));
            notify(Notice::WorkerPanicked { worker: number, reason });
        }
    };
    let thread = thread::Builder::new().name(format!("vmlan-worker-{number}")).spawn(run)?;
    Ok(Thread { commands: sender, waker, ledger, thread: Some(thread) })
}
