//! Reads a file once and hashes it, on one thread.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{BenchError, Result};

/// Large enough for the hash to use all lanes of the processor, small enough for its caches.
const BUFFER_BYTES: usize = 1 << 20;

/// Gives the time of one pass over the file with BLAKE3.
///
/// # Errors
///
/// It cannot be read, or has not so many bytes.
pub fn hash(path: &Path, bytes: u64) -> Result<Duration> {
    let failed = || format!("read {}", path.display());
    let begun = Instant::now();
    let mut file = File::open(path).map_err(BenchError::of(failed()))?;
    let (mut hash, mut buffer, mut read) = (blake3::Hasher::new(), vec![0; BUFFER_BYTES], 0);
    loop {
        let length = file.read(&mut buffer).map_err(BenchError::of(failed()))?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        read += length as u64;
    }
    // Else nothing would keep the compiler from leaving it out.
    std::hint::black_box(hash.finalize());
    if read == bytes {
        Ok(begun.elapsed())
    } else {
        Err(BenchError::new(format!("{read} of {bytes} bytes read")))
    }
}
