//! Downloads: a file comes under a name of its own, goes on where a connection was cut, and gets its published name once
//! its length and hash were checked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::weights::WeightsError;
use crate::weights::digest::Digests;
use crate::weights::load;
use crate::weights::registry::{self, Place};

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Longest file of a publisher who does not say how long it is; the longest of the registry has 0.6 GB.
const MAX_BYTES: u64 = 4 << 30;

/// How patiently a server is asked.
#[derive(Clone, Debug)]
pub struct Fetcher {
    pub agent: Agent,
    /// Connections that end early or fail in a row, without a byte in between, until the fetch is given up.
    pub n_attempts: u32,
    /// Before the second attempt; each further pause is twice as long.
    pub pause: Duration,
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub url: &'a str,
    pub file: &'a registry::File,
    /// The folder that it gets its published name in.
    pub dir: &'a Path,
}

/// Bytes that are here, and how many there will be, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub n_bytes: u64,
    pub total: Option<u64>,
}

impl Default for Fetcher {
    /// Follows redirects, and proxies as the environment names them: `https_proxy`, `all_proxy`, `no_proxy`.
    fn default() -> Self {
        Self {
            agent: agent(Duration::from_secs(60), ureq::Proxy::try_from_env()),
            n_attempts: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// A client that gives a silent server so much time.
pub fn agent(silence: Duration, proxy: Option<ureq::Proxy>) -> Agent {
    Agent::config_builder()
        .timeout_connect(Some(silence))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .http_status_as_error(false)
        .user_agent(concat!("xp/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy)
        .build()
        .into()
}

/// Where a file is fetched from; a mirror's address stands for everything before the file's name.
///
/// `None` for a file without an address of its own.
pub fn url(file: &registry::File, mirror: Option<&str>) -> Option<String> {
    match (mirror, file.place) {
        (Some(mirror), _) => Some(format!("{}/{}", mirror.trim_end_matches('/'), file.name)),
        (None, Place::Address(address)) => Some(address.to_owned()),
        (None, Place::Package { .. } | Place::Embedded(_)) => None,
    }
}

impl Fetcher {
    /// Fetches a file unless it is there, and returns its path; a second fetch of the same file waits for the first.
    ///
    /// What was received before an error stays for the next fetch, unless it cannot be part of the file.
    pub fn fetch(&self, wanted: Wanted<'_>, received: &mut dyn FnMut(Received)) -> Result<PathBuf, WeightsError> {
        let path = wanted.dir.join(wanted.file.name);
        let lock_path = wanted.beside(".lock");
        let io_error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| WeightsError::Io { what, path, source }
        };
        fs::create_dir_all(wanted.dir).map_err(io_error("make", wanted.dir))?;
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(io_error("lock", &lock_path))?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        if path.is_file() {
            return Ok(path);
        }
        let part = wanted.beside(".part");
        self.fill(wanted, &part, received)?;
        fs::rename(&part, &path).map_err(io_error("write", &path))?;
        // Who waits for this lock finds the file; who comes later makes another lock, and finds it too.
        for done in [wanted.beside(".part.json"), lock_path] {
            let _ = fs::remove_file(done);
        }
        Ok(path)
    }

    /// Fills the partial file until it is the whole one.
    fn fill(&self, wanted: Wanted<'_>, path: &Path, received: &mut dyn FnMut(Received)) -> Result<(), WeightsError> {
        let error = |source| WeightsError::Io { what: "write", path: path.to_owned(), source };
        let mut part = Part::open(wanted, path).map_err(error)?;
        let resumed = part.n_bytes > 0;
        let mut checked = self.receive_checked(wanted, &mut part, received)?;
        if checked.is_err() && resumed {
            // What was there before may have been part of something else.
            part.restart().map_err(error)?;
            checked = self.receive_checked(wanted, &mut part, received)?;
        }
        checked.inspect_err(|_| remove_part(wanted, path))
    }

    /// Receives what is missing and checks the whole; the outer error leaves what is here for the next fetch.
    fn receive_checked(
        &self,
        wanted: Wanted<'_>,
        part: &mut Part,
        received: &mut dyn FnMut(Received),
    ) -> Result<Result<(), WeightsError>, WeightsError> {
        self.receive(wanted, part, received)?;
        part.file.sync_all().map_err(|source| WeightsError::Io { what: "write", path: part.path.clone(), source })?;
        let checked = Digests::checked(&part.path, wanted.file, &[], wanted.url);
        Ok(checked.and_then(|_| load::check_readable(&part.path, wanted.file, wanted.url)))
    }

    /// Receives the bytes that are missing, over as many connections as it takes.
    fn receive(
        &self,
        wanted: Wanted<'_>,
        part: &mut Part,
        received: &mut dyn FnMut(Received),
    ) -> Result<(), WeightsError> {
        let mut n_failed = 0;
        loop {
            let before = part.n_bytes;
            let failure = match self.connect(wanted, part, received) {
                Ok(Ended::Whole) => return Ok(()),
                Ok(Ended::Early) => WeightsError::Cut { url: wanted.url.to_owned(), n_bytes: part.n_bytes },
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            n_failed = if part.n_bytes > before { 1 } else { n_failed + 1 };
            if n_failed >= self.n_attempts {
                return Err(failure);
            }
            tracing::info!(error = %failure, "trying again");
            thread::sleep(self.pause * 2_u32.pow(n_failed - 1));
        }
    }

    /// Receives over one connection.
    fn connect(
        &self,
        wanted: Wanted<'_>,
        part: &mut Part,
        received: &mut dyn FnMut(Received),
    ) -> Result<Ended, WeightsError> {
        let url = || wanted.url.to_owned();
        let mut request = self.agent.get(wanted.url);
        if part.n_bytes > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", part.n_bytes));
            if let Some(validator) = &part.validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        let response =
            request.call().map_err(|error| WeightsError::Unreachable { url: url(), reason: error.to_string() })?;
        let write_error = |part: &Part| {
            let path = part.path.clone();
            move |source| WeightsError::Io { what: "write", path, source }
        };
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response, part.n_bytes) => total_of_range(&response),
            StatusCode::OK => {
                part.restart().map_err(write_error(part))?;
                length(&response)
            }
            // What is here already is not part of what is there.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if part.n_bytes > 0 => {
                part.restart().map_err(write_error(part))?;
                return Ok(Ended::Early);
            }
            status => return Err(WeightsError::Refused { url: url(), status: status.as_u16() }),
        };
        let wrong_length = |found| {
            let expected = wanted.file.n_bytes.unwrap_or(MAX_BYTES);
            WeightsError::Length { origin: url(), expected, found }
        };
        let most = wanted.file.n_bytes.unwrap_or(MAX_BYTES);
        if let Some(total) = total.filter(|total| wanted.file.n_bytes.map_or(*total > most, |n| n != *total)) {
            return Err(wrong_length(total));
        }
        part.note_validator(wanted, &response).map_err(write_error(part))?;
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            received(Received { n_bytes: part.n_bytes, total: total.or(wanted.file.n_bytes) });
            let bytes = match body.read(&mut chunk) {
                Ok(n) => &chunk[..n],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A cut connection; what it brought is kept.
                Err(error) => {
                    tracing::debug!(%error, "the connection ended");
                    return Ok(Ended::Early);
                }
            };
            if bytes.is_empty() {
                let is_whole = total.or(wanted.file.n_bytes).is_none_or(|total| part.n_bytes >= total);
                return Ok(if is_whole { Ended::Whole } else { Ended::Early });
            }
            part.file.write_all(bytes).map_err(write_error(part))?;
            part.n_bytes += bytes.len() as u64;
            if part.n_bytes > total.unwrap_or(most) {
                let found = part.n_bytes;
                part.restart().map_err(write_error(part))?;
                return Err(wrong_length(found));
            }
        }
    }
}

impl Wanted<'_> {
    /// The path of something that belongs to the file.
    fn beside(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}{ending}", self.file.name))
    }
}

/// How a connection ended.
enum Ended {
    Whole,
    Early,
}

/// What is here of a file.
struct Part {
    path: PathBuf,
    file: File,
    n_bytes: u64,
    /// The server's mark of the version that this is part of.
    validator: Option<String>,
}

impl Part {
    /// Opens what an earlier fetch left, if it can be told to be of the same file.
    fn open(wanted: Wanted<'_>, path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let note = fs::read(wanted.beside(".part.json")).ok();
        let note: Option<Value> = note.and_then(|note| serde_json::from_slice(&note).ok());
        let note = note.filter(|note| note["format_version"] == 1 && note["url"] == wanted.url);
        let validator = note.and_then(|note| note["validator"].as_str().map(str::to_owned));
        let mut n_bytes = file.seek(SeekFrom::End(0))?;
        let too_long = wanted.file.n_bytes.is_some_and(|whole| n_bytes >= whole);
        // Without a mark, only a hash can tell a file that was put together of two.
        if too_long || (validator.is_none() && wanted.file.hash.is_none()) {
            file.set_len(0)?;
            n_bytes = file.seek(SeekFrom::Start(0))?;
        }
        Ok(Self { path: path.to_owned(), file, n_bytes, validator })
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.n_bytes = self.file.seek(SeekFrom::Start(0))?;
        self.validator = None;
        Ok(())
    }

    /// Notes the version that the server sends, for a later fetch.
    fn note_validator(&mut self, wanted: Wanted<'_>, response: &Response<Body>) -> io::Result<()> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // A weak mark is none for ranges (RFC 9110, section 13.1.5).
        let strong = text(header::ETAG).filter(|mark| !mark.starts_with("W/"));
        self.validator = strong.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned);
        let note = json!({ "format_version": 1, "url": wanted.url, "validator": self.validator });
        fs::write(wanted.beside(".part.json"), note.to_string())
    }
}

fn remove_part(wanted: Wanted<'_>, path: &Path) {
    for gone in [path.to_owned(), wanted.beside(".part.json")] {
        let _ = fs::remove_file(gone);
    }
}

/// Whether another attempt would end the same.
fn is_final(error: &WeightsError) -> bool {
    match error {
        WeightsError::Refused { status, .. } => *status < 500 && ![408, 429].contains(status),
        WeightsError::Unreachable { .. } | WeightsError::Cut { .. } => false,
        _ => true,
    }
}

fn length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `bytes 100-199/200`.
fn range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
    let (_, total) = rest.split_once('/')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

fn starts_at(response: &Response<Body>, n_bytes: u64) -> bool {
    range(response).is_some_and(|(first, _)| first == n_bytes)
}

fn total_of_range(response: &Response<Body>) -> Option<u64> {
    range(response)?.1
}

#[cfg(test)]
mod tests;
