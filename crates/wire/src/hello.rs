//! The first message of either side.

use peerage_content::{Bitmap, ContentId, Layout, Reader, Writer};

use crate::WireError;

const MAX_TICKET: usize = 512;

/// Optional behaviour that a side announces. No bit is defined yet; unknown ones are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u32);

/// `version u8` · `features u32` · `content 32` · `size u64` · `ticket` (u16 length, at most 512) · bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Highest version that the sender speaks.
    pub version: u8,
    /// What else it can do.
    pub features: Features,
    /// The content that the connection is about.
    pub content: ContentId,
    /// Its cutting; both sides must agree on the size.
    pub layout: Layout,
    /// The sender's signed swarm ticket. Empty: none.
    pub ticket: Vec<u8>,
    /// The pieces that the sender has verified.
    pub have: Bitmap,
}

impl Hello {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u8(self.version).u32(self.features.0).raw(self.content.as_bytes()).u64(self.layout.size());
        writer.field(&self.ticket).raw(&self.have.to_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.u8("version")?;
        let features = Features(reader.u32("features")?);
        let content = ContentId::from_bytes(reader.array("content")?);
        let layout = Layout::new(reader.u64("size")?)?;
        let ticket = reader.field(MAX_TICKET, "ticket")?.to_vec();
        let bits = Bitmap::byte_len(layout.pieces());
        let have = Bitmap::from_bytes(reader.take(bits, "bitmap")?, layout.pieces())?;
        // A later version may append fields: version 1 ignores what follows (the frame limit bounds it).
        Ok(Self { version, features, content, layout, ticket, have })
    }
}
