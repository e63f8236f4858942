//! The keeper of an uplink's port: the data path and the services begin and end together.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use vmlan_api::UplinkMode;
use vmlan_drivers::uplink::{Command, Options, Uplink};

use super::convert::{engine, service_guard, services_config, services_ports};
use super::host::{HostAddresses, random_key};
use super::kernel::Kernel;
use super::running::{News, Running};
use super::services::{Callbacks, Notice, Services, Setup};
use super::{Rooms, UplinkSettings};
use crate::kind::{KeepGuest, Work};
use crate::{Pause, Seat, recover};

/// Connections of guests to the network's DNS that wait to be taken.
const STREAMS: usize = 256;

/// Keeps the uplink of one network.
pub(super) struct Keep {
    pub(super) rooms: Rooms,
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(keep(seat, self.rooms))
    }
}

async fn keep(seat: &mut Seat, rooms: Rooms) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        let Some(settings) = seat.uplink() else {
            seat.failed("the port has no settings of an uplink".into());
            return std::future::pending().await;
        };
        // Before anything is served: what comes in the place of the services must not be heard.
        let guard = service_guard(&settings, seat.id());
        if let Err(error) = seat.network().set_services(Some(guard)) {
            seat.failed(error.to_string());
            return std::future::pending().await;
        }
        match open(seat, rooms, settings) {
            Ok((running, news)) => {
                pause.reset();
                attend(seat, running, news).await;
            }
            Err(reason) => seat.failed(reason),
        }
        pause.wait().await;
    }
}

/// Starts data path and services.
fn open(
    seat: &Seat,
    rooms: Rooms,
    settings: Arc<UplinkSettings>,
) -> Result<(Arc<Running>, mpsc::UnboundedReceiver<News>), String> {
    let refused = |what: &'static str| move |error: std::io::Error| format!("cannot make {what}: {error}");
    let key = random_key().map_err(refused("a random key"))?;
    // Both ends make theirs one that does not wait.
    let (ours, theirs) = UnixDatagram::pair().map_err(refused("the services' channel"))?;
    let (tell, news) = mpsc::unbounded_channel();
    let (streams, taken) = mpsc::channel(STREAMS);
    let names = move |stream, guest: vmlan_nat::tcp::GuestEnd| {
        let client = vmlan_services::Client { ingress: guest.ingress, mac: guest.mac };
        streams.try_send((stream, client)).is_ok()
    };
    let notify = {
        let tell = tell.clone();
        // The receiver ends with the uplink.
        move |notice| drop(tell.send(News::Engine(notice)))
    };
    let kernel = match rooms.mode {
        UplinkMode::Kernel => Some(Kernel::open(&seat.place().network, rooms, seat.mtu())?),
        UplinkMode::User | UplinkMode::None => None,
    };
    let options = Options {
        engine: engine(&settings, seat.mtu(), key),
        channel: theirs.into(),
        names: Arc::new(names),
        notify: Arc::new(notify),
        sockets: super::host::sockets(),
        outlet: kernel.as_ref().map(Kernel::endpoint),
    };
    let uplink = Arc::new(Uplink::new(options).map_err(refused("the uplink"))?);
    let setup = Setup {
        config: services_config(&settings, seat.mtu(), &seat.place().network),
        ports: services_ports(&seat.ports()),
        lease_file: seat.fabric().state.lease_file(&seat.place().network),
        resolv_conf: "/etc/resolv.conf".into(),
        channel: ours.into(),
        streams: taken,
    };
    let (noticed, learned) = (tell.clone(), tell);
    let engine = uplink.clone();
    let callbacks = Callbacks {
        notice: Box::new(move |notice: Notice| drop(noticed.send(News::Services(notice)))),
        learned: Box::new(move |name, good_for| drop(learned.send(News::Learned(name, good_for)))),
        bound: Box::new(move |client, address| {
            engine.tell(Command::Bind(address.into(), client.mac, client.ingress));
            // A guest that was started anew knows nothing of its flows.
            engine.tell(Command::PortMayBeNew(client.ingress));
        }),
    };
    let handle = Services::start(setup, callbacks).map_err(refused("the services"))?;
    Ok((Running::new(seat, settings, uplink, (handle, kernel)), news))
}

/// Keeps the parts in step with each other, with the ports and with the host, until the attachment is of no more use.
async fn attend(seat: &mut Seat, running: Arc<Running>, mut news: mpsc::UnboundedReceiver<News>) {
    let place = seat.uplinks().register(&seat.place().network.clone(), running.clone());
    let mut ports = seat.watch_ports();
    // What was set between the first look and this one.
    if let Some(settings) = seat.uplink() {
        // Forwards that cannot be are listed with their reasons.
        let _ = running.take_settings(&settings).await;
    }
    let mut host = HostAddresses::default();
    running.tell_host(&mut host);
    // Without its rules the kernel would let packets out as they are.
    if let Err(reason) = running.sync().await {
        return seat.failed(reason);
    }
    seat.up(running.endpoint(), Some(running.gateway())).await;
    loop {
        tokio::select! {
            fault = seat.fault_or_tick() => match fault {
                Some(fault) => {
                    drop(place);
                    return recover(seat, fault).await;
                }
                None => {
                    running.tell_host(&mut host);
                    if let Err(reason) = running.look_at_kernel().await {
                        drop(place);
                        seat.down().await;
                        return seat.failed(reason);
                    }
                }
            },
            Some(news) = news.recv() => running.hear(news).await,
            changed = ports.changed() => match changed {
                // What the kernel did not take is noted.
                Ok(()) => drop(running.sync().await),
                Err(_) => std::future::pending().await,
            },
        }
    }
}
