//! The operations of the interface, each defined once.
//!
//! The daemon routes by this table, and the description in OpenAPI is made of it: a path that is not described cannot
//! be served, and one that is described has to be. The macro `operations!` takes for each operation its
//! documentation, its name, method and path, the members of its query in brackets, the type of its body (`takes`
//! where it has to be there, `may_take` where it need not), the type of its answer, media types behind `as` where
//! they are not JSON alone, and behind `fails` the statuses that it can have beyond those of every operation.

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// The need of an operation for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It takes none.
    None,
    /// It takes one, and an empty one has a meaning too.
    Optional,
    /// It has to be there.
    Required,
}

/// One operation of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// Its method.
    pub method: Method,
    /// Its path, with parameters in braces: `/v1/networks/{network}`.
    pub path: &'static str,
    /// The members that its query may have.
    pub query: &'static [&'static str],
    /// Its body.
    pub body: Body,
    /// Media types of its answer when all is well; JSON comes first where it is one of them.
    pub media: &'static [&'static str],
    /// Statuses of its failures, beyond those of every operation and of every one with a body.
    fails: &'static [u16],
    /// A sentence about it, and further ones where there is more to say.
    pub documentation: &'static str,
}

impl Operation {
    /// Statuses of its failures, in order: its own, those of a body, and those that every operation can have.
    pub fn failures(&self) -> Vec<u16> {
        let of_body: &[u16] = if self.body == Body::None { &[] } else { &[408, 413, 422] };
        let mut all = [self.fails, of_body, &[400, 500, 503]].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

macro_rules! operations {
    ($(
        $(#[doc = $doc:literal])+
        $id:ident: $method:ident $path:literal $([$($query:literal),+])? $($need:ident $body:ty)? => $answer:ty
            $(, as $($media:literal),+)? $(, fails $($status:literal)+)?;
    )+) => {
        /// The name of an operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OperationId {
            $($(#[doc = $doc])+ $id,)+
        }

        impl Operation {
            /// All operations.
            pub const ALL: &'static [Operation] = &[$(
                Operation {
                    id: OperationId::$id,
                    method: Method::$method,
                    path: $path,
                    query: &[$($($query),+)?],
                    body: operations!(@need $($need)?),
                    media: operations!(@media $($($media),+)?),
                    fails: &[$($($status),+)?],
                    documentation: concat!($($doc, "\n"),+),
                },
            )+];
        }

        #[cfg(test)]
        impl OperationId {
            /// The schema of the body, where there is one.
            pub(crate) fn body(self, generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
                match self {
                    $(Self::$id => operations!(@schema generator $($body)?),)+
                }
            }

            /// The schema of the answer.
            pub(crate) fn answer(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match self {
                    $(Self::$id => generator.subschema_for::<$answer>(),)+
                }
            }
        }
    };
    (@need) => { Body::None };
    (@need takes) => { Body::Required };
    (@need may_take) => { Body::Optional };
    (@media) => { &["application/json"] };
    (@media $($media:literal),+) => { &[$($media),+] };
    (@schema $generator:ident) => { None };
    (@schema $generator:ident $body:ty) => { Some($generator.subschema_for::<$body>()) };
}

#[cfg(test)]
use crate::{openapi::*, *};

operations! {
    /// Describes this interface.
    Openapi: Get "/v1/openapi.json" => Document;
    /// Tells of the daemon.
    Status: Get "/v1/status" => Status;
    /// Returns the link to the daemon's web page.
    /// The link holds a secret: it opens the page for anybody on this host. Only a daemon with `[daemon] ui` has one.
    Ui: Get "/v1/ui" => WebPage, fails 404;
    /// Returns the configuration that runs, in a form that can be applied again.
    Config: Get "/v1/config" ["format"] => Config, as "application/json", "application/toml";
    /// Lists the networks.
    Networks: Get "/v1/networks" => Vec<Network>;
    /// Tells of one network.
    Network: Get "/v1/networks/{network}" => Network, fails 404;
    /// Adds a network.
    /// Without a body its settings are the usual ones. The daemon's file stays as it is.
    AddNetwork: Post "/v1/networks/{network}" ["dry_run"] may_take NetworkConfig => ApplyReport, fails 404 409;
    /// Removes a network with its ports and its trunk.
    RemoveNetwork: Delete "/v1/networks/{network}" ["dry_run"] => ApplyReport, fails 404 422;
    /// Lists the addresses of a network's forwarding database.
    Fdb: Get "/v1/networks/{network}/fdb" => Vec<FdbEntry>, fails 404;
    /// Lists the ports of a network.
    NetworkPorts: Get "/v1/networks/{network}/ports" => Vec<Port>, fails 404;
    /// Tells of one port.
    Port: Get "/v1/networks/{network}/ports/{port}" => Port, fails 404;
    /// Adds a port.
    /// The daemon's file stays as it is.
    AddPort: Post "/v1/networks/{network}/ports/{port}" ["dry_run"] takes PortConfig => ApplyReport, fails 404 409;
    /// Changes keys of a port.
    /// A key that is `null` is taken away (JSON Merge Patch, RFC 7396). The daemon's file stays as it is.
    ChangePort: Patch "/v1/networks/{network}/ports/{port}" ["dry_run"] takes PortConfig => ApplyReport, fails 404;
    /// Removes a port.
    RemovePort: Delete "/v1/networks/{network}/ports/{port}" ["dry_run"] => ApplyReport, fails 404 422;
    /// Adds a rule to a port's.
    AddFilter: Post "/v1/networks/{network}/ports/{port}/filters" ["dry_run"] takes FilterRequest => ApplyReport,
        fails 404;
    /// Removes a rule of a port's.
    RemoveFilter: Delete "/v1/networks/{network}/ports/{port}/filters/{number}" ["dry_run"] => ApplyReport,
        fails 404 422;
    /// Lists the ports.
    Ports: Get "/v1/ports" ["network"] => Vec<Port>, fails 404;
    /// Lists the rules about frames.
    Filters: Get "/v1/filters" ["network"] => Vec<Filter>, fails 404;
    /// Lists the trunks.
    Trunks: Get "/v1/trunks" ["network"] => Vec<Trunk>, fails 404;
    /// Lists the counters of ports.
    Counters: Get "/v1/counters" ["network", "port"] => Vec<PortCounters>, fails 404;
    /// Lists the uplinks.
    Uplinks: Get "/v1/uplinks" ["network"] => Vec<Uplink>, fails 404;
    /// Tells of the uplink of a network.
    Uplink: Get "/v1/networks/{network}/uplink" => Uplink, fails 404;
    /// Lists the addresses that guests have.
    Leases: Get "/v1/leases" ["network"] => Vec<Lease>, fails 404;
    /// Lists the addresses that guests of a network have.
    NetworkLeases: Get "/v1/networks/{network}/leases" => Vec<Lease>, fails 404;
    /// Ends a lease, so that the address is free.
    Release: Delete "/v1/networks/{network}/leases/{address}" => Lease, fails 404 422;
    /// Lists the flows of uplinks.
    Flows: Get "/v1/flows" ["network", "port"] => Vec<Flow>, fails 404;
    /// Lists the flows of a network's uplink.
    NetworkFlows: Get "/v1/networks/{network}/flows" ["port"] => Vec<Flow>, fails 404;
    /// Resets a flow on both sides.
    CloseFlow: Delete "/v1/networks/{network}/flows/{flow}" => Flow, fails 404;
    /// Lists the forwards.
    Forwards: Get "/v1/forwards" ["network"] => Vec<Forward>, fails 404;
    /// Lists the forwards of a network's uplink.
    NetworkForwards: Get "/v1/networks/{network}/forwards" => Vec<Forward>, fails 404;
    /// Adds a forward, which holds until a configuration is applied.
    AddForward: Post "/v1/networks/{network}/forwards" takes ForwardRequest => Forward, fails 404;
    /// Removes a forward, and resets what it carries.
    RemoveForward: Delete "/v1/networks/{network}/forwards/{forward}" => Forward, fails 404;
    /// Has this configuration run, or tells what would be done.
    Apply: Post "/v1/apply" ["dry_run"] takes ApplyRequest => ApplyReport, fails 404;
    /// Reads the daemon's own file again and applies it.
    Reload: Post "/v1/reload" ["dry_run"] may_take ReloadRequest => ApplyReport, fails 404 409;
    /// Streams what happens from now on, one JSON object a line, until the client leaves or the daemon ends.
    Events: Get "/v1/events" => Event, as "application/x-ndjson";
    /// Captures what passes ports from now on.
    /// The answer is a pcapng file while it is made; without a body everything is captured.
    Capture: Post "/v1/capture" may_take CaptureRequest => Document, as "application/x-pcapng", fails 404;
    /// Ends a capture in order: its client gets what was captured until then.
    EndCapture: Delete "/v1/capture/{capture}" => CaptureEnded, fails 404;
}
