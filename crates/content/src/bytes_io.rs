//! Reading and writing canonical bytes: big-endian integers and length-prefixed fields, with limits.

/// Foreign bytes end early, are too long, or hold a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field}: {why}")]
pub struct ShortInput {
    /// The field that could not be read.
    pub field: &'static str,
    /// What was found and what is allowed.
    pub why: &'static str,
}

/// A cursor over foreign bytes. No method panics or allocates more than the input holds.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], ShortInput> {
        let (head, tail) =
            self.rest.split_at_checked(len).ok_or(ShortInput { field, why: "input ends early" })?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ShortInput> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, ShortInput> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A big-endian `u16`.
    ///
    /// # Errors
    /// Too few bytes are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, ShortInput> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// A big-endian `u32`.
    ///
    /// # Errors
    /// Too few bytes are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, ShortInput> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A big-endian `u64`.
    ///
    /// # Errors
    /// Too few bytes are left.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, ShortInput> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A field with a `u16` length before it, of at most `max` bytes.
    ///
    /// # Errors
    /// Too long, or the input ends early.
    pub fn field(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], ShortInput> {
        let len = usize::from(self.u16(field)?);
        if len > max {
            return Err(ShortInput { field, why: "longer than allowed" });
        }
        self.take(len, field)
    }

    /// A UTF-8 field with a `u16` length before it, of at most `max` bytes.
    ///
    /// # Errors
    /// Too long, not UTF-8, or the input ends early.
    pub fn text(&mut self, max: usize, field: &'static str) -> Result<&'a str, ShortInput> {
        std::str::from_utf8(self.field(max, field)?).map_err(|_| ShortInput { field, why: "not UTF-8" })
    }

    /// Everything has been read.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn end(&self, field: &'static str) -> Result<(), ShortInput> {
        if self.rest.is_empty() { Ok(()) } else { Err(ShortInput { field, why: "bytes after the end" }) }
    }
}

/// Builds canonical bytes; the mirror of [`Reader`].
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing written yet, and room for so many bytes.
    pub fn with_capacity(len: usize) -> Self {
        Self { out: Vec::with_capacity(len) }
    }

    /// Raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// A big-endian `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A big-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A big-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A field with a `u16` length before it. Cut at 65,535 bytes; callers check their own lower limits first.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        self.u16(bytes.len() as u16).raw(bytes)
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}
