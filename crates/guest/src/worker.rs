//! The thread of a guest.
//!
//! It turns its stack until nothing moves, then sleeps until the attachment is ready, the stack or an operation wants
//! to be called, or a command arrives. Every operation is a [`Task`] that is polled once a turn. When the attachment
//! ends, the tasks are told so and later ones are refused; the thread lives until it is told to stop.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::stack::Stack;
use crate::{Error, wait};

/// A task that the guest's owner gives to its thread. The thread stops when the owner goes away.
pub(crate) type Command = Box<dyn Task>;

/// The answer of a task that was polled.
pub(crate) enum Step {
    /// It waits for the stack, and for this time if there is one.
    Wait(Option<Instant>),
    /// It has told its result and holds no socket.
    Done,
}

/// An operation under way.
pub(crate) trait Task: Send {
    /// Does what is possible now.
    fn poll(&mut self, stack: &mut Stack, now: Instant) -> Step;

    /// Tells the one who waits that the attachment ended.
    fn disconnected(&mut self, error: Error);
}

pub(crate) struct Worker {
    stack: Stack,
    tasks: Vec<Box<dyn Task>>,
    commands: Receiver<Command>,
    waker: UnixStream,
    /// Why the attachment ended.
    ended: Option<String>,
}

impl Worker {
    /// `waker` is non-blocking and becomes readable with every command.
    pub(crate) fn new(stack: Stack, commands: Receiver<Command>, waker: UnixStream) -> Worker {
        Worker { stack, tasks: Vec::new(), commands, waker, ended: None }
    }

    pub(crate) fn run(mut self) {
        while self.take_commands() {
            let mut moved = false;
            let mut wake = None;
            if self.ended.is_none() {
                moved = self.stack.receive();
                wake = self.poll_tasks();
                moved |= self.stack.transmit();
                self.check_attachment();
            }
            if !moved && self.sleep(wake).is_err() {
                // Only a fault of our own can make poll(2) fail; sleeping less is the mildest answer.
                std::thread::yield_now();
            }
        }
        self.stack.device.flush();
    }

    /// False when the owner is gone.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(mut task) => match &self.ended {
                    None => self.tasks.push(task),
                    Some(reason) => task.disconnected(disconnected(&self.stack.name, reason)),
                },
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Polls the tasks; the earliest time that one of them wants to be called at.
    fn poll_tasks(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        self.tasks.retain_mut(|task| match task.poll(&mut self.stack, now) {
            Step::Wait(at) => {
                wake = earliest(wake, at);
                true
            }
            Step::Done => false,
        });
        wake
    }

    fn check_attachment(&mut self) {
        if let Some(failure) = self.stack.device.take_failure() {
            let reason = failure.to_string();
            for mut task in self.tasks.drain(..) {
                task.disconnected(disconnected(&self.stack.name, &reason));
            }
            self.ended = Some(reason);
        }
    }

    fn sleep(&mut self, wake: Option<Instant>) -> std::io::Result<()> {
        let mut wake = wake;
        if self.ended.is_none() {
            wake = earliest(wake, self.stack.wake_at());
        }
        let waker = self.waker.as_fd();
        let mut descriptors = vec![PollFd::from_borrowed_fd(waker, PollFlags::IN)];
        if self.ended.is_none() {
            let (frames, control) = self.stack.device.descriptors();
            let write = if self.stack.device.is_blocked() { PollFlags::OUT } else { PollFlags::empty() };
            descriptors.push(PollFd::from_borrowed_fd(frames, PollFlags::IN | write));
            descriptors.extend(control.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        wait::until(&mut descriptors, wake)?;
        if !descriptors[0].revents().is_empty() {
            let mut octets = [0; 64];
            while (&self.waker).read(&mut octets).is_ok_and(|read| read == octets.len()) {}
        }
        Ok(())
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn disconnected(guest: &str, reason: &str) -> Error {
    Error::Disconnected { guest: guest.to_owned(), reason: reason.to_owned() }
}
