//! The TCP sockets of the daemon's own: metrics, and the web page.
//!
//! Theory of operation. Each listens where the configuration says, from the moment that it says so. An address that
//! cannot be had is tried again until it can, and what came of each is written down for those who ask ([`Shown`]): the
//! supervisor changes it, and questions are answered from it without waiting for the supervisor.

#[cfg(feature = "ui")]
mod page;
#[cfg(all(feature = "control", not(feature = "ui")))]
#[path = "without_page.rs"]
mod page;
#[cfg(feature = "control")]
mod serving;
#[cfg(not(feature = "control"))]
#[path = "without.rs"]
mod serving;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use vmlan_api::{Error, ErrorCode, Listener, Service, WebPage};
use vmlan_frame::Mutex;

pub(crate) use serving::Listeners;

/// The sockets as they are, or the reasons why they are not.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    listeners: BTreeMap<Service, Listener>,
    page: Option<WebPage>,
    /// Leave of the web page to change the configuration.
    writes: bool,
}

impl Shown {
    /// The sockets, by service.
    pub(crate) fn list(&self) -> Vec<Listener> {
        self.0.lock().listeners.values().cloned().collect()
    }

    /// The link to the web page.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] where the configuration has none, [`ErrorCode::Unavailable`] while its address cannot be
    /// had.
    pub(crate) fn page(&self) -> Result<WebPage, Error> {
        let rows = self.0.lock();
        match (rows.listeners.get(&Service::Ui), &rows.page) {
            (Some(Listener { reason: Some(reason), .. }), _) => {
                Err(Error::new(ErrorCode::Unavailable, reason.clone()))
            }
            (Some(_), Some(page)) => Ok(page.clone()),
            (Some(_), None) => {
                Err(Error::new(ErrorCode::Unavailable, "the web page is just being set up; ask again"))
            }
            (None, _) => Err(Error::new(
                ErrorCode::NotFound,
                "the daemon serves no web page; write `ui = \"127.0.0.1:7070\"` into `[daemon]` and `vmlan apply`, or \
                 run `vmlan ui`, which serves one of its own",
            )),
        }
    }

    /// Shows a service at an address, or why it is not there; without an address no more.
    fn set(&self, service: Service, address: Option<SocketAddr>, reason: Option<String>) {
        let mut rows = self.0.lock();
        if service == Service::Ui {
            rows.page = None;
        }
        match address {
            Some(address) => {
                let writes = service == Service::Ui && rows.writes;
                let row = Listener { service, address: address.to_string(), reason, writes };
                rows.listeners.insert(service, row);
            }
            None => drop(rows.listeners.remove(&service)),
        }
    }

    /// Shows the web page.
    #[cfg(feature = "ui")]
    fn set_page(&self, page: WebPage) {
        self.0.lock().page = Some(page);
    }

    /// Shows whether the web page may change the configuration.
    #[cfg(feature = "ui")]
    fn set_writes(&self, writes: bool) {
        let mut rows = self.0.lock();
        rows.writes = writes;
        if let Some(page) = &mut rows.page {
            page.writes = writes;
        }
        if let Some(row) = rows.listeners.get_mut(&Service::Ui) {
            row.writes = writes;
        }
    }
}
