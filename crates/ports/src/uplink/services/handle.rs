//! Commands to the task.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vmlan_services::leases::InUse;
use vmlan_services::{Client, Port};

use super::Config;

/// Commands that wait at most.
pub(super) const QUEUE: usize = 256;

/// A command.
pub(super) enum Command {
    Leases(oneshot::Sender<Vec<InUse>>),
    Release(Ipv4Addr, oneshot::Sender<bool>),
    Resolvers(oneshot::Sender<Vec<SocketAddr>>),
    Counts(oneshot::Sender<Vec<(&'static str, u64)>>),
    Update(Box<Config>),
    Ports(Vec<Port>),
    PortUp(Port),
    PortDown(u16),
    Heard(IpAddr, Client),
    Farewell(oneshot::Sender<()>),
}

/// The reason for which the task ended.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It was told to.
    #[error("it was told to stop")]
    Asked,
    /// The data path closed its end of the channel, or the channel failed.
    #[error("the channel to the data path failed")]
    Channel(#[source] std::io::Error),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
}

/// The task, to ask it and to tell it things. Dropped, it ends the task at once.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<Stopped>,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, task: JoinHandle<Stopped>) -> Handle {
        Handle { commands, task }
    }

    async fn tell(&self, command: Command) {
        // A task that has ended has nothing to be told.
        let _ = self.commands.send(command).await;
    }

    async fn ask<T: Default>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (sender, receiver) = oneshot::channel();
        self.tell(command(sender)).await;
        receiver.await.unwrap_or_default()
    }

    /// The addresses in use.
    pub async fn leases(&self) -> Vec<InUse> {
        self.ask(Command::Leases).await
    }

    /// Ends a lease; false if there is none.
    pub async fn release(&self, address: Ipv4Addr) -> bool {
        self.ask(|reply| Command::Release(address, reply)).await
    }

    /// The resolvers that are asked.
    pub async fn resolvers(&self) -> Vec<SocketAddr> {
        self.ask(Command::Resolvers).await
    }

    /// Counts of messages that got no answer, by reason.
    pub async fn counts(&self) -> Vec<(&'static str, u64)> {
        self.ask(Command::Counts).await
    }

    /// Replaces the settings. The subnets must stay the same.
    pub async fn update(&self, config: Config) {
        self.tell(Command::Update(Box::new(config))).await;
    }

    /// Replaces all ports.
    pub async fn ports(&self, ports: Vec<Port>) {
        self.tell(Command::Ports(ports)).await;
    }

    /// Adds or replaces a port.
    pub async fn port_up(&self, port: Port) {
        self.tell(Command::PortUp(port)).await;
    }

    /// Tells that a port is not attached any more.
    pub async fn port_down(&self, ingress: u16) {
        self.tell(Command::PortDown(ingress)).await;
    }

    /// Tells that a guest was heard to use an address; lost if too much waits already.
    pub fn heard(&self, address: IpAddr, client: Client) {
        let _ = self.commands.try_send(Command::Heard(address, client));
    }

    /// Waits for the end of the task. Safe to cancel, but not to be called again after it has returned.
    pub async fn ended(&mut self) -> Stopped {
        (&mut self.task).await.unwrap_or(Stopped::Panicked)
    }

    /// Tells guests that the router is going, and waits until the data path has it and leases are written. Guests are
    /// answered still.
    pub async fn farewell(&self) {
        self.ask(Command::Farewell).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
