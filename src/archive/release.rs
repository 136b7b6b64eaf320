//! Release files: signature, name, dates, and the table of indexes they vouch for. Nothing of an
//! archive is believed before this.

use std::collections::HashMap;

use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;
use pgp::types::KeyDetails;

use crate::digest::Digest;

/// Debian's own keys; see `keys/README.md`.
const PINNED: &[&str] = &[
    include_str!("keys/bookworm-automatic.asc"),
    include_str!("keys/bookworm-security-automatic.asc"),
    include_str!("keys/bookworm-stable.asc"),
    include_str!("keys/trixie-automatic.asc"),
    include_str!("keys/trixie-security-automatic.asc"),
    include_str!("keys/trixie-stable.asc"),
];

/// How far an archive's clock may be ahead of ours, in seconds.
const AHEAD: i64 = 24 * 3600;

/// Why a Release file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// It is not a signed text.
    #[error("not a signed Release file: {0}")]
    NotSigned(String),
    /// None of its signatures is good and by a known key.
    #[error("no valid signature by a trusted key (signed by \
        {by})", by = if .0.is_empty() { "nobody" } else { .0 })]
    Signature(String),
    /// It is for something else.
    #[error("it is for {got:?}, not {expected:?}")]
    WrongName {
        /// What was asked for.
        expected: String,
        /// Its own.
        got: String,
    },
    /// It is too old to be believed.
    #[error("its Valid-Until has passed: {0}")]
    Expired(String),
    /// The archive was newer before.
    #[error("it is of {found}, older than the one that the lock file was made from, of {locked}")]
    Older {
        /// Date of the newest Release file now.
        found: String,
        /// Date of the newest one then.
        locked: String,
    },
    /// It is from the future.
    #[error("it is from the future ({0}); is this host's clock right?")]
    Future(String),
    /// A field is missing or not to be understood.
    #[error("field {0} is missing or malformed")]
    Field(&'static str),
    /// It vouches for no index of this kind.
    #[error("it lists no {0}")]
    NoIndex(String),
    /// The key file holds no usable key.
    #[error("no usable OpenPGP key: {0}")]
    Key(String),
}

/// Keys that may sign.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<SignedPublicKey>);

/// The content of a signed Release file.
#[derive(Debug, Clone)]
pub struct Release {
    /// `Codename`.
    pub codename: Option<String>,
    /// `Suite`.
    pub suite: Option<String>,
    /// `Date`, in seconds since 1970.
    pub date: i64,
    /// `Valid-Until`, as seconds since 1970 and as written.
    pub valid_until: Option<(i64, String)>,
    /// `Acquire-By-Hash`.
    pub by_hash: bool,
    /// Whether `binary-all` indexes belong to it.
    pub all_apart: bool,
    /// Path below the Release file → content and size.
    pub files: HashMap<String, (Digest, u64)>,
}

impl Keyring {
    /// Debian's own keys.
    pub fn debian() -> Self {
        let keys = PINNED
            .iter()
            .map(|text| SignedPublicKey::from_string(text).expect("the pinned keys are valid").0);
        Self(keys.collect())
    }

    /// Reads armored or binary keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, Distrust> {
        let wrong = |e: pgp::errors::Error| Distrust::Key(e.to_string());
        let mut keys = vec![];
        for key in SignedPublicKey::from_reader_many(bytes).map_err(wrong)?.0 {
            keys.push(key.map_err(wrong)?);
        }
        if keys.is_empty() {
            return Err(Distrust::Key("the file is empty".to_owned()));
        }
        Ok(Self(keys))
    }

    /// Whether some key here made `signature` over `text`, is entitled to, and holds at `now`
    /// (seconds since 1970), as the signature does. A key that has been replaced must not keep an
    /// old archive alive.
    fn vouches(&self, signature: &Signature, text: &[u8], now: i64) -> bool {
        let strong = matches!(
            signature.hash_alg(),
            Some(
                HashAlgorithm::Sha256
                    | HashAlgorithm::Sha384
                    | HashAlgorithm::Sha512
                    | HashAlgorithm::Sha3_256
                    | HashAlgorithm::Sha3_512
            )
        );
        let Some(made) = signature.created() else { return false };
        let made = i64::from(made.as_secs());
        let over = |from: i64, lasts: i64, time: i64| lasts != 0 && time > from + lasts;
        let lasts = seconds_of(signature.signature_expiration_time());
        if !strong || over(made, lasts, now) {
            return false;
        }
        // Good when it was made, and good now.
        let times = [made, now];
        self.0.iter().any(|key| {
            if revoked(key) || !times.iter().all(|time| alive(key, *time)) {
                return false;
            }
            if signature.verify(key, text).is_ok() {
                return true;
            }
            key.public_subkeys.iter().any(|sub| {
                let primary = &key.primary_key;
                // Also one that cannot be checked counts: a doubt is no reason to believe.
                let cut_off = sub
                    .signatures
                    .iter()
                    .any(|s| s.typ() == Some(pgp::packet::SignatureType::SubkeyRevocation));
                // A subkey signs for the key only if the key says so, and the subkey agrees (both
                // are in the binding); the newest binding limits for how long.
                let newest = sub
                    .signatures
                    .iter()
                    .filter(|s| s.verify_subkey_binding(primary, &sub.key).is_ok())
                    .max_by_key(|s| s.created().map(|t| t.as_secs()));
                let Some(binding) = newest.filter(|s| s.key_flags().sign()) else { return false };
                let lasts = seconds_of(binding.key_expiration_time());
                let born = i64::from(sub.key.created_at().as_secs());
                !cut_off
                    && sub.verify_bindings(primary).is_ok()
                    && !times.iter().any(|time| over(born, lasts, *time))
                    && signature.verify(&sub.key, text).is_ok()
            })
        })
    }
}

fn seconds_of(time: Option<pgp::types::Duration>) -> i64 {
    time.map_or(0, |time| i64::from(time.as_secs()))
}

fn revoked(key: &SignedPublicKey) -> bool {
    key.details.revocation_signatures.iter().any(|s| s.verify_key(&key.primary_key).is_ok())
}

/// Whether the key had not expired at `time`, by its newest valid self-signature.
fn alive(key: &SignedPublicKey, time: i64) -> bool {
    let primary = &key.primary_key;
    let users = key.details.users.iter().flat_map(|user| {
        user.signatures
            .iter()
            .filter(|s| s.verify_certification(primary, pgp::types::Tag::UserId, &user.id).is_ok())
    });
    let direct = key.details.direct_signatures.iter().filter(|s| s.verify_key(primary).is_ok());
    let Some(newest) = users.chain(direct).max_by_key(|s| s.created().map(|t| t.as_secs())) else {
        return false;
    };
    let lasts = seconds_of(newest.key_expiration_time());
    lasts == 0 || time <= i64::from(primary.created_at().as_secs()) + lasts
}

/// The archive must not be older than the one that was locked (both: date of the newest Release
/// file, in seconds since 1970): a mirror that stands still can hold updates back for ever.
pub fn must_not_be_older(found: i64, locked: i64) -> Result<(), Distrust> {
    if found >= locked {
        return Ok(());
    }
    Err(Distrust::Older { found: date_of(found), locked: date_of(locked) })
}

fn date_of(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// Reads an `InRelease` file: returns the text that is signed, and nothing around it.
pub fn open_inline(bytes: &[u8], keys: &Keyring, now: i64) -> Result<String, Distrust> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Distrust::NotSigned("it is not UTF-8".to_owned()))?;
    // A proxy's login page, or an error page that came with status 200.
    if !text.trim_start().starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
        return Err(Distrust::NotSigned("it does not begin with a signature header".to_owned()));
    }
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|e| Distrust::NotSigned(e.to_string()))?;
    let signed = message.signed_text();
    if message.signatures().iter().any(|s| keys.vouches(s, signed.as_bytes(), now)) {
        return Ok(signed.replace("\r\n", "\n"));
    }
    Err(Distrust::Signature(signers(message.signatures())))
}

/// Reads a `Release` file with its detached `Release.gpg`.
pub fn open_detached(
    bytes: &[u8],
    signature: &[u8],
    keys: &Keyring,
    now: i64,
) -> Result<String, Distrust> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Distrust::NotSigned("it is not UTF-8".to_owned()))?;
    let wrong = |e: pgp::errors::Error| Distrust::NotSigned(e.to_string());
    let mut signatures = vec![];
    for one in DetachedSignature::from_reader_many(signature).map_err(wrong)?.0 {
        signatures.push(one.map_err(wrong)?.signature);
    }
    if signatures.iter().any(|s| keys.vouches(s, bytes, now)) {
        return Ok(text.to_owned());
    }
    Err(Distrust::Signature(signers(&signatures)))
}

fn signers(signatures: &[Signature]) -> String {
    let name = |s: &Signature| {
        let by_print = s.issuer_fingerprint().first().map(|f| format!("{f:X}"));
        by_print
            .or_else(|| s.issuer_key_id().first().map(|id| format!("{id}")))
            .unwrap_or_else(|| "an unnamed key".to_owned())
    };
    signatures.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Release {
    /// Reads the signed text.
    pub fn parse(text: &str) -> Result<Self, Distrust> {
        let mut fields: HashMap<&str, &str> = HashMap::new();
        let mut files = HashMap::new();
        let mut in_table = false;
        for line in text.lines() {
            if let Some(row) = line.strip_prefix([' ', '\t']) {
                if in_table {
                    let mut words = row.split_whitespace();
                    let (Some(hex), Some(size), Some(path), None) =
                        (words.next(), words.next(), words.next(), words.next())
                    else {
                        return Err(Distrust::Field("SHA256"));
                    };
                    let digest = Digest::from_hex(hex).map_err(|_| Distrust::Field("SHA256"))?;
                    let size = size.parse().map_err(|_| Distrust::Field("SHA256"))?;
                    files.insert(path.to_owned(), (digest, size));
                }
                continue;
            }
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            in_table = key == "SHA256";
            if fields.insert(key, value.trim()).is_some() && !key.is_empty() {
                return Err(Distrust::Field("SHA256 (or another) is there twice, so it"));
            }
        }
        let date = fields.get("Date").and_then(|t| seconds(t)).ok_or(Distrust::Field("Date"))?;
        let valid_until = match fields.get("Valid-Until") {
            Some(text) => {
                Some((seconds(text).ok_or(Distrust::Field("Valid-Until"))?, (*text).to_owned()))
            }
            None => None,
        };
        let own = |name: &str| fields.get(name).map(|t| (*t).to_owned()).filter(|t| !t.is_empty());
        let all_apart =
            fields.get("Architectures").is_some_and(|a| a.split_whitespace().any(|a| a == "all"))
                && !fields
                    .get("No-Support-for-Architecture-all")
                    .is_some_and(|t| t.split_whitespace().any(|w| w == "Packages"));
        Ok(Self {
            codename: own("Codename"),
            suite: own("Suite"),
            date,
            valid_until,
            by_hash: fields.get("Acquire-By-Hash").is_some_and(|v| v.eq_ignore_ascii_case("yes")),
            all_apart,
            files,
        })
    }

    /// Debian's own suites: `Codename` must be what was asked for (`Suite` moves on with every
    /// release).
    pub fn must_be(&self, codename: &str) -> Result<(), Distrust> {
        match self.codename.as_deref() {
            Some(got) if got == codename => Ok(()),
            got => Err(Distrust::WrongName {
                expected: codename.to_owned(),
                got: got.unwrap_or_default().to_owned(),
            }),
        }
    }

    /// Somebody's repository: its suite or code name must be what was asked for, where it has any.
    pub fn must_answer_to(&self, suite: &str) -> Result<(), Distrust> {
        let names = [&self.codename, &self.suite];
        if suite.ends_with('/')
            || names.iter().all(|n| n.is_none())
            || names.iter().any(|n| n.as_deref() == Some(suite))
        {
            return Ok(());
        }
        Err(Distrust::WrongName {
            expected: suite.to_owned(),
            got: self.codename.clone().or_else(|| self.suite.clone()).unwrap_or_default(),
        })
    }

    /// It must be neither expired (unless `expired` ones are taken) nor from the future at `now`
    /// (seconds since 1970).
    pub fn must_be_fresh(&self, now: i64, expired: bool) -> Result<(), Distrust> {
        match &self.valid_until {
            Some((until, text)) if *until < now && !expired => {
                return Err(Distrust::Expired(text.clone()));
            }
            _ => {}
        }
        if self.date > now + AHEAD {
            return Err(Distrust::Future(date_of(self.date)));
        }
        Ok(())
    }
}

/// `Sat, 21 Nov 2026 09:15:44 UTC` → seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, clock, zone] = words[..] else { return None };
    if !matches!(zone, "UTC" | "GMT" | "+0000" | "Z") {
        return None;
    }
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let mut parts = clock.split(':').map(|p| p.parse::<i8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let date = jiff::civil::DateTime::new(
        year.parse().ok()?,
        i8::try_from(month).ok()?,
        day.parse().ok()?,
        hour,
        minute,
        second,
        0,
    )
    .ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &[u8] = include_bytes!("../../fixtures/debian/trixie-updates.InRelease");

    /// When the fixture was made.
    const NOW: i64 = 1_795_252_544;

    #[test]
    fn the_pinned_keys_are_the_ones_in_the_table() {
        let table = include_str!("keys/README.md");
        let keys = Keyring::debian();
        assert_eq!(keys.0.len(), 6);
        for key in keys.0 {
            let print = format!("{:X}", key.fingerprint());
            assert!(table.contains(&print), "{print}");
        }
    }

    #[test]
    fn a_real_one_is_believed() {
        let text = open_inline(SIGNED, &Keyring::debian(), NOW).expect("Debian signed it");
        let release = Release::parse(&text).expect("it is a Release file");
        assert_eq!(release.codename.as_deref(), Some("trixie-updates"));
        assert!(release.by_hash && !release.all_apart);
        assert!(release.files.contains_key("main/binary-amd64/Packages.xz"));
        assert_eq!(release.must_be("trixie-updates"), Ok(()));
        assert!(matches!(release.must_be("trixie"), Err(Distrust::WrongName { .. })));
        assert_eq!(release.must_be_fresh(release.date, false), Ok(()));
        assert!(matches!(
            release.must_be_fresh(release.date + 30 * 86_400, false),
            Err(Distrust::Expired(_))
        ));
        assert!(matches!(
            release.must_be_fresh(release.date - 30 * 86_400, false),
            Err(Distrust::Future(_))
        ));
    }

    /// B9
    #[test]
    fn a_signature_counts_while_its_key_does() {
        let keys = Keyring::debian();
        assert!(open_inline(SIGNED, &keys, NOW).is_ok());
        // The key expires, and an old archive with it.
        let late = NOW + 20 * 365 * 86_400;
        assert!(matches!(open_inline(SIGNED, &keys, late), Err(Distrust::Signature(_))));
    }

    /// B9
    #[test]
    fn an_archive_does_not_get_older() {
        assert_eq!(must_not_be_older(NOW, NOW), Ok(()));
        assert!(matches!(must_not_be_older(NOW - 1, NOW), Err(Distrust::Older { .. })));
    }

    #[test]
    fn a_changed_one_is_not() {
        let text = String::from_utf8(SIGNED.to_vec()).expect("ASCII");
        let keys = Keyring::debian();
        let changed = text.replacen("Codename: trixie-updates", "Codename: trixie", 1);
        assert!(matches!(open_inline(changed.as_bytes(), &keys, NOW), Err(Distrust::Signature(_))));
        let around = format!("SHA256:\n evil\n{text}");
        assert!(matches!(open_inline(around.as_bytes(), &keys, NOW), Err(Distrust::NotSigned(_))));
        let after = format!("{text}\nSHA256:\n evil\n");
        assert!(matches!(open_inline(after.as_bytes(), &keys, NOW), Err(Distrust::NotSigned(_))));
        assert!(matches!(open_inline(b"<html>log in", &keys, NOW), Err(Distrust::NotSigned(_))));
        assert!(matches!(
            open_inline(&SIGNED[..SIGNED.len() / 2], &keys, NOW),
            Err(Distrust::NotSigned(_))
        ));
    }

    #[test]
    fn other_keys_do_not_count() {
        let stranger = Keyring::parse(PINNED[1].as_bytes()).expect("a key");
        let error =
            open_inline(SIGNED, &stranger, NOW).expect_err("the security key does not sign this");
        assert!(error.to_string().contains("4CB50190207B4758A3F73A796ED0E7B82643E131"), "{error}");
        assert!(matches!(Keyring::parse(b""), Err(Distrust::Key(_))));
        assert!(matches!(Keyring::parse(b"hello"), Err(Distrust::Key(_))));
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in [
            "",
            "Date: yesterday\n",
            "Date: Sat, 21 Nov 2026 09:15:44 UTC\nSHA256:\n zz 1 a\n",
            "Date: Sat, 21 Nov 2026 09:15:44 CET\n",
        ] {
            assert!(matches!(Release::parse(text), Err(Distrust::Field(_))), "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:01 UTC"), Some(1));
        assert_eq!(seconds("Sat, 21 Nov 2026 09:15:44 UTC"), Some(1_795_252_544));
        assert_eq!(seconds("Sat, 31 Feb 2026 09:15:44 UTC"), None);
    }
}
