//! The HTTP side: which routes there are, who may use them, and how answers look.

mod gate;
mod handlers;
mod io;
mod routes;

pub(crate) use gate::Visitor;
pub(crate) use routes::router;
#[cfg(test)]
pub(crate) use routes::{Auth, listed};
