use std::sync::Arc;

use vmlan_drivers::Fault;
use vmlan_drivers::stream::Socket;

use super::Stream;
use crate::Seat;
use crate::guests::{self, AttachGuest, Descriptors, Guest};

pub(super) async fn keep(seat: &mut Seat, config: &Stream) {
    match config {
        Stream::Listen(address, allow, access) => {
            guests::listen(seat, config, (address, allow, *access)).await
        }
        Stream::Connect(address) => guests::connect(seat, config, address).await,
        Stream::Fd(number) => guests::inherited(seat, config, *number).await,
    }
}

impl AttachGuest for Stream {
    type Attached = ();

    const PORT: &'static str = "a stream port";
    const DESCRIPTORS: Descriptors = Descriptors::Refused;

    async fn attach(&self, seat: &mut Seat, guest: Guest) -> Result<(), String> {
        seat.up(Arc::new(Socket::new(guest.socket)), Some(guest.peer)).await;
        Ok(())
    }

    async fn end(&self, seat: &mut Seat, _attached: &mut ()) -> Fault {
        seat.fault().await
    }
}
