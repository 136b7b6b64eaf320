//! What can be proved about an image: statements in the format of in-toto, carried as OCI artifacts
//! that name the image as their `subject`, so that registries and other tools find them. Pure:
//! bytes in, bytes out.
//!
//! ```text
//! index.json ── entry without a name ──► manifest { artifactType, config: {}, layers: [statement, …], subject: the image's manifest }
//! ```
//! An attestation never changes the image: it is no part of its digest.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::image::{Descriptor, MEDIA_EMPTY, Manifest};

/// Media type of an in-toto statement.
pub const MEDIA_IN_TOTO: &str = "application/vnd.in-toto+json";

/// Predicate of a test result (in-toto attestation framework, "test-result").
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// Predicate of what was seen of a build's programs (in-toto attestation framework,
/// "runtime-trace").
pub const RUNTIME_TRACE: &str = "https://in-toto.io/attestation/runtime-trace/v0.1";

/// Format of a statement (in-toto attestation framework, "Statement v1").
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// Longest list of results that is read.
const MOST: usize = 100_000;

/// What a run of an image's tests gave. Only runs in which every test passed are recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestRun {
    /// Version of bake that ran them.
    pub bake: String,
    /// When it ended, RFC 3339.
    pub finished: String,
    /// What was run: the digest of the list of tests.
    pub tests: Digest,
    /// Each test, in order.
    pub passed: Vec<Passed>,
}

/// A test that passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passed {
    /// What people call it.
    pub name: String,
    /// What it looked at, in a few words each.
    pub what: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Returns the statement that `subject` (`name:version` and the digest of its manifest) passed its
/// tests.
pub fn test_statement(name: &str, subject: &Digest, run: &TestRun) -> Vec<u8> {
    let names: Vec<&str> = run.passed.iter().map(|test| test.name.as_str()).collect();
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{ "name": name, "digest": { "sha256": subject.hex() } }],
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": "PASSED",
            "configuration": [{ "name": "tests", "digest": { "sha256": run.tests.hex() } }],
            "passedTests": names,
            "warnedTests": [],
            "failedTests": [],
            // Readers of the predicate skip what they do not know.
            "bake": run,
        },
    });
    statement.to_string().into_bytes()
}

/// Reads a statement that [`test_statement`] made; `None` for any other, and for one about another
/// subject.
pub fn test_run(bytes: &[u8], subject: &Digest) -> Option<TestRun> {
    let statement: Value = serde_json::from_slice(bytes).ok()?;
    let about =
        statement["subject"].as_array()?.iter().any(|one| one["digest"]["sha256"] == subject.hex());
    let fits =
        statement["_type"] == STATEMENT && statement["predicateType"] == TEST_RESULT && about;
    let run: TestRun = serde_json::from_value(statement["predicate"]["bake"].clone()).ok()?;
    (fits && statement["predicate"]["result"] == "PASSED" && run.passed.len() <= MOST)
        .then_some(run)
}

/// What the steps of an image reached over their networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkTrace {
    /// Version of bake that carried it.
    pub bake: String,
    /// The steps that reached something, in order.
    pub steps: Vec<StepTrace>,
}

/// What one step reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTrace {
    /// Its place, from 1.
    pub step: usize,
    /// What people call it.
    pub label: String,
    /// By host and port.
    pub reached: Vec<HostTrace>,
}

/// A port of a host that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTrace {
    /// Its name, or its address where the step asked for that.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How many connections there were.
    pub connections: u64,
    /// Bytes that the step sent there.
    pub sent: u64,
    /// Bytes that the step got from there.
    pub received: u64,
}

/// Returns the statement that the steps of `subject` (`name:version` and the digest of its
/// manifest) reached this.
pub fn network_statement(name: &str, subject: &Digest, trace: &NetworkTrace) -> Vec<u8> {
    let seen: Vec<&HostTrace> = trace.steps.iter().flat_map(|step| &step.reached).collect();
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{ "name": name, "digest": { "sha256": subject.hex() } }],
        "predicateType": RUNTIME_TRACE,
        "predicate": {
            "monitor": { "type": "bake", "version": trace.bake },
            "monitoredProcess": { "type": "steps of a recipe" },
            "monitorLog": { "process": [], "network": seen, "fileAccess": [] },
            "bake": trace,
        },
    });
    statement.to_string().into_bytes()
}

/// Reads a statement that [`network_statement`] made; `None` for any other, and for one about
/// another subject.
pub fn network_trace(bytes: &[u8], subject: &Digest) -> Option<NetworkTrace> {
    let statement: Value = serde_json::from_slice(bytes).ok()?;
    let about =
        statement["subject"].as_array()?.iter().any(|one| one["digest"]["sha256"] == subject.hex());
    let fits =
        statement["_type"] == STATEMENT && statement["predicateType"] == RUNTIME_TRACE && about;
    let trace: NetworkTrace =
        serde_json::from_value(statement["predicate"]["bake"].clone()).ok()?;
    let seen = || trace.steps.iter().map(|step| step.reached.len()).sum::<usize>();
    (fits && trace.steps.len() <= MOST && seen() <= MOST).then_some(trace)
}

/// Returns the bytes of the empty config that an artifact's manifest names.
pub fn empty_config() -> (&'static [u8], Descriptor) {
    const EMPTY: &[u8] = b"{}";
    (EMPTY, Descriptor::new(MEDIA_EMPTY, Digest::of(EMPTY), EMPTY.len() as u64))
}

/// Returns the manifest of an artifact of `kind` that speaks about `subject`.
pub fn artifact(kind: &str, layers: Vec<Descriptor>, subject: &Descriptor) -> Manifest {
    let mut manifest = Manifest::new(empty_config().1, layers);
    manifest.artifact_type = Some(kind.to_owned());
    manifest.subject =
        Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size));
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::MEDIA_MANIFEST;

    fn run() -> TestRun {
        let passed = vec![Passed {
            name: "serves".to_owned(),
            what: vec!["http".to_owned()],
            seconds: 0.25,
        }];
        TestRun {
            bake: "0.1.0".to_owned(),
            finished: "2026-01-01T00:00:00Z".to_owned(),
            tests: Digest::of("t"),
            passed,
        }
    }

    #[test]
    fn a_statement_is_read_again_but_only_about_its_subject() {
        let bytes = test_statement("web:1", &Digest::of("m"), &run());
        assert_eq!(test_run(&bytes, &Digest::of("m")), Some(run()));
        assert_eq!(test_run(&bytes, &Digest::of("other")), None);
        let failed = String::from_utf8(bytes).unwrap().replace("PASSED", "FAILED");
        assert_eq!(test_run(failed.as_bytes(), &Digest::of("m")), None);
        assert_eq!(test_run(b"[]", &Digest::of("m")), None);
        assert_eq!(test_run(b"", &Digest::of("m")), None);
    }

    #[test]
    fn what_steps_reached_is_read_again() {
        let reached = HostTrace {
            host: "a.example".to_owned(),
            port: 443,
            connections: 2,
            sent: 10,
            received: 20,
        };
        let steps =
            vec![StepTrace { step: 1, label: "run curl".to_owned(), reached: vec![reached] }];
        let trace = NetworkTrace { bake: "0.1.0".to_owned(), steps };
        let bytes = network_statement("web:1", &Digest::of("m"), &trace);
        assert_eq!(network_trace(&bytes, &Digest::of("m")), Some(trace));
        assert_eq!(network_trace(&bytes, &Digest::of("other")), None);
        assert_eq!(test_run(&bytes, &Digest::of("m")), None, "it is no run of tests");
    }

    #[test]
    fn an_artifact_names_its_subject_without_annotations() {
        let subject = Descriptor::new(MEDIA_MANIFEST, Digest::of("m"), 7).with_annotation("a", "b");
        let manifest = artifact("x/y", vec![], &subject);
        assert_eq!(manifest.subject, Some(Descriptor::new(MEDIA_MANIFEST, Digest::of("m"), 7)));
        assert_eq!(manifest.validate(), Vec::<String>::new());
        assert_eq!(manifest.config.digest, Digest::of("{}"));
    }
}
