//! Reads bytes from stdin.

use std::io::{self, Read};

use tokio::sync::mpsc;

/// The bytes of one read: the capacity of a pipe.
const READ_BYTES: usize = 64 << 10;
/// How many reads may wait in the channel. They are lost if the process is killed: a pipe cannot be read twice.
const READS_MAX: usize = 1;

/// Stdin, read by a thread of its own: a blocked read from a terminal or a pipe cannot be cancelled, so the thread may
/// outlive this value. It ends with the next read, or with the process.
#[derive(Debug)]
pub struct StdinReader {
    reads: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl StdinReader {
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn open() -> io::Result<Self> {
        let (sender, reads) = mpsc::channel(READS_MAX);
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || read_all(&sender))?;
        Ok(Self { reads })
    }

    /// Returns the next bytes, or no bytes at the end.
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
