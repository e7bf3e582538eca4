//! Randomness of the operating system.

/// The system gives none.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("could not read the system's randomness")]
pub struct RandomError(#[source] getrandom::Error);

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(RandomError)?;
    Ok(out)
}
