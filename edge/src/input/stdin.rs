//! Bytes from stdin.

use std::io::{self, Read};

use tokio::sync::mpsc;

/// Read at once: what a pipe holds.
const READ_BYTES: usize = 64 << 10;
/// Reads that may wait to be taken. What waits here when the process is killed is lost: a pipe cannot be read twice.
const READS_MAX: usize = 1;

/// Stdin, read by a thread of its own: a read that waits for a terminal or a pipe cannot be called off, so the thread
/// may outlive this value. It ends with the next read, or with the process.
#[derive(Debug)]
pub struct Stdin {
    reads: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Stdin {
    /// # Errors
    ///
    /// There is no thread more to be had.
    pub fn open() -> io::Result<Self> {
        let (sender, reads) = mpsc::channel(READS_MAX);
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || read_all(&sender))?;
        Ok(Self { reads })
    }

    /// The next bytes; none at the end.
    pub async fn read(&mut self) -> io::Result<Vec<u8>> {
        self.reads.recv().await.unwrap_or_else(|| Ok(Vec::new()))
    }
}

fn read_all(sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut buffer = vec![0; READ_BYTES];
        let read = match stdin.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(bytes) => {
                buffer.truncate(bytes);
                Ok(buffer)
            }
            Err(error) => Err(error),
        };
        let more = read.as_ref().is_ok_and(|bytes| !bytes.is_empty());
        if sender.blocking_send(read).is_err() || !more {
            return;
        }
    }
}
