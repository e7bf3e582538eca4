//! The HTTP side: which endpoints there are, who may use them, and how answers look.

mod endpoints;
mod gate;
mod io;
mod routes;

#[cfg(test)]
pub(crate) use endpoints::Endpoint;
#[cfg(test)]
pub(crate) use routes::ROUTES;
pub(crate) use routes::answer;
