//! Reads and hashes on one thread, while another one processes what has been read.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::thread;

/// How many chunks may be read ahead. It lets the slower side catch up without stopping the other.
const AHEAD: usize = 2;

/// Passes the whole content to `on_chunk`, in chunks of `chunk_bytes` and a shorter last one, until it breaks.
/// Returns the BLAKE3 of the content, or of as much of it as was read.
///
/// With each chunk comes the result of `inspect`, which sees only that chunk and runs on the reading thread: so both
/// threads have about as much to do.
///
/// The first chunk has `first_bytes`: for a small file this is its size plus one byte, which shows that nothing
/// follows.
///
/// # Errors
///
/// The reader's. Some of the content may have been passed on by then.
pub(super) fn read<T: Send>(
    mut reader: impl Read + Send,
    first_bytes: usize,
    chunk_bytes: usize,
    inspect: impl Fn(&[u8]) -> T + Send,
    mut on_chunk: impl FnMut(&[u8], T) -> ControlFlow<()>,
) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut first = vec![0; first_bytes];
    fill(&mut reader, &mut first)?;
    hasher.update(&first);
    // A small file is not worth a thread.
    if first.is_empty() || on_chunk(&first, inspect(&first)).is_break() || first.len() < first_bytes {
        return Ok(hasher.finalize());
    }
    let (read, chunks) = sync_channel::<(Vec<u8>, T)>(AHEAD);
    let (spare, spares) = sync_channel::<Vec<u8>>(AHEAD + 2);
    thread::scope(|scope| {
        let reading = scope.spawn(move || -> io::Result<blake3::Hash> {
            loop {
                let mut chunk = spares.try_recv().unwrap_or_default();
                chunk.resize(chunk_bytes, 0);
                fill(&mut reader, &mut chunk)?;
                hasher.update(&chunk);
                let found = inspect(&chunk);
                // Fails if the other side has stopped.
                if chunk.is_empty() || read.send((chunk, found)).is_err() {
                    return Ok(hasher.finalize());
                }
            }
        });
        for (chunk, found) in chunks {
            if on_chunk(&chunk, found).is_break() {
                break;
            }
            // The channel has capacity for all chunks.
            let _ = spare.try_send(chunk);
        }
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Fills the buffer, or shortens it at the end.
fn fill(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `bytes` a few at a time, and then an error if `fails`.
    struct Source<'a> {
        bytes: &'a [u8],
        fails: bool,
    }

    impl Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.bytes.len().min(buffer.len()).min(3);
            if count == 0 && self.fails {
                return Err(io::Error::other("the disk has failed"));
            }
            let (now, later) = self.bytes.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.bytes = later;
            Ok(count)
        }
    }

    #[test]
    fn every_chunk_is_inspected_hashed_and_passed_on_once_and_in_order() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let lengths = [0, 1, 9, 10, 11, 20, 999, 1000];
        for (length, first) in lengths.into_iter().flat_map(|length| [(length, 10), (length, 3)]) {
            let (content, mut seen) = (&content[..length], Vec::new());
            let reader = Source { bytes: content, fails: false };
            let hash = read(reader, first, 10, <[u8]>::to_vec, |chunk, found| {
                assert_eq!(chunk, found);
                seen.extend_from_slice(chunk);
                ControlFlow::Continue(())
            });
            assert_eq!(
                (&seen[..], hash.expect("readable")),
                (content, blake3::hash(content)),
                "{length} {first}"
            );
        }
    }

    #[test]
    fn after_a_break_no_more_chunks_are_passed_on() {
        for limit in 1..20 {
            let mut seen = 0;
            let read = read(Source { bytes: &[7; 1000], fails: true }, 10, 10, <[u8]>::len, |_, _| {
                seen += 1;
                if seen == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(read.is_ok() || limit > 1, "nothing was read beyond the first chunk");
            assert_eq!(seen, limit);
        }
    }

    #[test]
    fn a_read_error_is_returned_wherever_it_occurs() {
        for length in [0, 5, 10, 15, 100] {
            let source = Source { bytes: &vec![7; length], fails: true };
            let read = read(source, 10, 10, <[u8]>::len, |_, _| ControlFlow::Continue(()));
            assert!(read.is_err_and(|error| error.to_string() == "the disk has failed"), "{length}");
        }
    }
}
