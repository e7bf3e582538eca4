//! The first message of either side.

use peerage_content::{Bitmap, ContentId, Layout, Reader, SiteProof, Writer};

use crate::WireError;

const MAX_TICKET: usize = 512;

/// Optional behaviour that a side announces; unknown bits are ignored. [`Features::SITE_PROOF`] is set by [`Hello`]
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u32);

impl Features {
    /// A proof of the site key follows the bitmap.
    pub const SITE_PROOF: Self = Self(1);

    const fn contains(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }
}

/// `version u8` · `features u32` · `content 32` · `size u64` · `ticket` (u16 length, at most 512) · bitmap, and with
/// [`Features::SITE_PROOF`] · `member 32` · `group 32`.
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
    /// The sender's proof of the site key, instead of a ticket.
    pub site: Option<SiteProof>,
}

impl Hello {
    pub(crate) fn write(&self, writer: &mut Writer) {
        let others = self.features.0 & !Features::SITE_PROOF.0;
        let features = if self.site.is_some() { others | Features::SITE_PROOF.0 } else { others };
        writer.u8(self.version).u32(features).raw(self.content.as_bytes()).u64(self.layout.size());
        writer.field(&self.ticket).raw(&self.have.to_bytes());
        if let Some(SiteProof { member, group }) = &self.site {
            writer.raw(member).raw(group);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.u8("version")?;
        let features = Features(reader.u32("features")?);
        let content = ContentId::from_bytes(reader.array("content")?);
        let layout = Layout::new(reader.u64("size")?)?;
        let ticket = reader.field(MAX_TICKET, "ticket")?.to_vec();
        let bits = Bitmap::byte_len(layout.pieces());
        let have = Bitmap::from_bytes(reader.take(bits, "bitmap")?, layout.pieces())?;
        let site = match features.contains(Features::SITE_PROOF) {
            true => Some(SiteProof { member: reader.array("member")?, group: reader.array("group")? }),
            false => None,
        };
        // A later version may append fields: version 1 ignores what follows (the frame limit bounds it).
        Ok(Self { version, features, content, layout, ticket, have, site })
    }
}
