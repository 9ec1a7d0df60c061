//! Every write that the gateway acknowledged, one JSON object a line, for `picopay verify --acks`.
//!
//! A thread of its own writes, so that a slow disk costs no latency until the buffers are full. Then the load waits, and no
//! line is lost.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;

use crate::write::UuidText;
use crate::write_answer::WriteAnswer;

/// Or a second old: some 250 lines.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers on their way: 16 MiB, two seconds of the fastest load.
const BUFFERS_MAX: usize = 256;

#[derive(Debug)]
pub struct AckFile {
    path: PathBuf,
    sender: SyncSender<Vec<u8>>,
    writer: JoinHandle<io::Result<u64>>,
}

impl AckFile {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("--acks {}: cannot be written", path.display()))?;
        let (sender, receiver) = sync_channel(BUFFERS_MAX);
        let writer =
            std::thread::Builder::new().name("acks".to_owned()).spawn(move || write_all(file, &receiver))?;
        Ok(Self { path: path.to_owned(), sender, writer })
    }

    pub fn sinks(&self) -> AckSinks {
        AckSinks(self.sender.clone())
    }

    pub fn finish(self) -> anyhow::Result<u64> {
        drop(self.sender);
        let written = self.writer.join().expect("the writer does not panic");
        written.with_context(|| {
            format!(
                "--acks {}: not every acknowledged write could be recorded, so the load was stopped",
                self.path.display()
            )
        })
    }
}

fn write_all(mut file: File, receiver: &Receiver<Vec<u8>>) -> io::Result<u64> {
    let mut lines = 0;
    for buffer in receiver {
        file.write_all(&buffer)?;
        lines += u64::try_from(memchr::memchr_iter(b'\n', &buffer).count()).expect("fits 64 bits");
    }
    match file.sync_data() {
        // A pipe or a device has nothing to sync.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
        _ => Ok(lines),
    }
}

#[derive(Debug, Clone)]
pub struct AckSinks(SyncSender<Vec<u8>>);

impl AckSinks {
    pub fn sink(&self) -> AckSink {
        AckSink { sender: self.0.clone(), buffer: Vec::with_capacity(BUFFER_BYTES + 512), is_closed: false }
    }
}

#[derive(Debug)]
pub struct AckSink {
    sender: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    is_closed: bool,
}

impl AckSink {
    /// Records the answer to the write with this key.
    pub fn record(&mut self, key: &UuidText, answer: &WriteAnswer<'_>) {
        let WriteAnswer { id, user_id, kind, amount, currency, balance_after, .. } = answer;
        let buffer = &mut self.buffer;
        // None of these texts can hold a quote or a backslash: each was compared with what was asked, or is an id or a number.
        buffer.push(b'{');
        if let Some(id) = id {
            write!(buffer, "\"id\":\"{id}\",").expect("a Vec takes everything");
        }
        let line = write!(
            buffer,
            "\"user_id\":{user_id},\"kind\":\"{kind}\",\"amount\":\"{amount}\",\"currency\":\"{currency}\","
        );
        line.expect("a Vec takes everything");
        if let Some(balance) = balance_after {
            write!(buffer, "\"balance_after\":\"{balance}\",").expect("a Vec takes everything");
        }
        buffer.extend_from_slice(b"\"idempotency_key\":\"");
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(b"\"}\n");
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        if !self.buffer.is_empty() {
            let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES + 512));
            self.is_closed |= self.sender.send(buffer).is_err();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl Drop for AckSink {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::UserId;

    use super::*;
    use crate::write::{Wish, Write};

    const BODY: &str = r#"{"transaction":{"id":"0199-1","user_id":1,"kind":"charge","amount":"1.00","currency":"USD",
        "balance_after":"9.00","idempotency_key":"550e8400-e29b-41d4-a716-446655440000"}}"#;

    fn record(sink: &mut AckSink, wish: Wish, body: &str) {
        let key = *b"550e8400-e29b-41d4-a716-446655440000";
        let write = Write { wish, user: UserId::try_from(1).unwrap(), minor_units: 100, key };
        sink.record(&key, &WriteAnswer::read(&write, body.as_bytes()).unwrap());
    }

    #[test]
    fn every_acknowledged_write_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks.jsonl");
        for expected in [2_000, 4_000] {
            let file = AckFile::open(&path).unwrap();
            let mut sinks = [file.sinks().sink(), file.sinks().sink()];
            for _ in 0..1_000 {
                for sink in &mut sinks {
                    record(sink, Wish::Charge, BODY);
                }
            }
            drop(sinks);
            assert_eq!(file.finish().unwrap(), 2_000);
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), expected, "the second run appends to the first");
            assert!(text.lines().all(|line| {
                line == r#"{"id":"0199-1","user_id":1,"kind":"charge","amount":"1.00","currency":"USD","balance_after":"9.00","idempotency_key":"550e8400-e29b-41d4-a716-446655440000"}"#
            }));
        }
    }

    #[test]
    fn a_hold_and_a_void_are_recorded_with_what_their_answers_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks.jsonl");
        let file = AckFile::open(&path).unwrap();
        let mut sink = file.sinks().sink();
        let held = r#"{"hold":{"id":"0199-1","user_id":1,"status":"open","amount":"1.00","currency":"USD",
            "idempotency_key":"of-the-hold"}}"#;
        record(&mut sink, Wish::Hold { expires_in_s: None }, held);
        record(&mut sink, Wish::Void { hold: [b'1'; 36] }, held);
        drop(sink);
        file.finish().unwrap();
        let rest =
            r#""amount":"1.00","currency":"USD","idempotency_key":"550e8400-e29b-41d4-a716-446655440000"}"#;
        let expected = format!(
            "{{\"id\":\"0199-1\",\"user_id\":1,\"kind\":\"hold\",{rest}\n{{\"user_id\":1,\"kind\":\"void\",{rest}\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_said_and_stops_the_load() {
        let file = AckFile::open(Path::new("/dev/full")).unwrap();
        let mut sink = file.sinks().sink();
        while !sink.is_closed() {
            record(&mut sink, Wish::Charge, BODY);
            sink.flush();
        }
        drop(sink);
        let message = format!("{:#}", file.finish().unwrap_err());
        assert!(message.contains("/dev/full") && message.contains("No space left"), "{message}");
    }
}
