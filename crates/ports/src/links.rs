//! Events of ports' links, told to every subscriber.

use std::future::poll_fn;
use std::sync::Arc;

use vmlan_api::EventKind;
use vmlan_link::{EventCode, Notice};

use super::directory::Place;
use super::fabric::Fabric;
use crate::Emitter;

/// Events of links that may wait here; further ones are lost and counted.
const WAITING: usize = 1024;

/// Tells of changes of links, for ever. That a link comes and goes is told of its port.
pub async fn follow(fabric: Arc<Fabric>, events: Emitter) {
    let subscription = fabric.registry.subscribe(WAITING);
    loop {
        let event = match poll_fn(|cx| subscription.poll_next(cx)).await {
            Notice::Event(event) => event,
            Notice::Lost(count) => {
                events.emit(EventKind::Lost { count });
                continue;
            }
        };
        let is_told = matches!(
            event.code,
            EventCode::LinkOn
                | EventCode::LinkOff
                | EventCode::FlagsChanged
                | EventCode::MtuChanged(_)
                | EventCode::LinkAddressChanged
                | EventCode::Driver(_)
        );
        // Other links, those of tunnels, are no ports.
        if is_told && let Some(Place { network, port }) = fabric.directory.place_of(event.index) {
            events.emit(EventKind::LinkChanged { network, port, change: event.code.name().to_owned() });
        }
    }
}
