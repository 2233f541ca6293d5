//! Files of any other kind: without records, and without boundaries but those of the blocks.

use mysimbdp_model::reason::Objection;

use super::cutter::Cutter;
use super::scanner::RecordScanner;

pub(super) struct Binary;

impl RecordScanner for Binary {
    fn feed(&mut self, chunk: &[u8], _: usize, cutter: &mut Cutter) -> Result<(), Objection> {
        cutter.cut_blocks(chunk);
        Ok(())
    }

    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection> {
        cutter.end_blocks();
        Ok(())
    }
}
