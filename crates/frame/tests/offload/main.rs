//! Offload requests: checked, met and merged, by the cases of the specification and on arbitrary input.

mod coalesce;
mod flows;
mod segment;
mod shape;
mod validate;
