use mysimbdp_model::app::UnitKind;
use proptest::prelude::*;

use super::*;

/// Stages a file of a prefix and micro-batches, as one file or in parts.
fn staged(format: Format, prefix: &[u8], ranges: &[&[u8]], in_parts: bool) -> (tempfile::TempDir, Manifest) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let batches: Vec<(u64, u64)> = ranges.iter().map(|range| (range.len() as u64, 1)).collect();
    let mut manifest = crate::testing::manifest(&batches);
    let whole = [prefix, &ranges.concat()].concat();
    manifest.format = format;
    manifest.prefix.length = prefix.len() as u64;
    manifest.bytes = whole.len() as u64;
    manifest.blake3 = blake3::hash(&whole).to_hex().to_string();
    let mut offset = prefix.len() as u64;
    if in_parts {
        write(directory.path().join("parts/prefix"), prefix);
    } else {
        write(directory.path().join("data.csv"), &whole);
    }
    for (batch, range) in manifest.micro_batches.iter_mut().zip(ranges) {
        batch.offset = offset;
        batch.xxh3 = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(range));
        if in_parts {
            batch.path = format!("parts/{:05}", batch.index);
            write(directory.path().join(&batch.path), range);
        }
        offset += batch.length;
    }
    (directory, manifest)
}

fn write(path: std::path::PathBuf, content: &[u8]) {
    files::create_dir_all(path.parent().expect("has a parent")).expect("directory");
    files::write_atomic(&path, content).expect("write");
}

fn units(manifest: &Manifest, kind: UnitKind) -> Vec<WorkUnit> {
    WorkUnit::all(manifest, kind, Some(1))
}

fn fed(directory: &Path, manifest: &Manifest, unit: &WorkUnit) -> Result<Vec<u8>, ContentError> {
    let feed = Feed::verified(directory, manifest, unit)?;
    let length = feed.length();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let mut bytes = Vec::new();
    runtime.block_on(feed.write_to(&mut bytes)).expect("feed a vector");
    assert_eq!(bytes.len() as u64, length, "the announced length is what is fed");
    Ok(bytes)
}

#[test]
fn each_micro_batch_comes_with_the_prefix() {
    for in_parts in [false, true] {
        let (directory, manifest) = staged(Format::Csv, b"a,b\n", &[b"1,2\n3,4\n", b"5,6\n"], in_parts);
        let units = units(&manifest, UnitKind::MicroBatch);
        assert_eq!(fed(directory.path(), &manifest, &units[0]).expect("unchanged"), b"a,b\n1,2\n3,4\n");
        assert_eq!(fed(directory.path(), &manifest, &units[1]).expect("unchanged"), b"a,b\n5,6\n");
    }
}

#[test]
fn elements_of_an_array_are_an_array_of_their_own() {
    for (prefix, ranges, expected) in [
        (
            &b" [ "[..],
            vec![&b"{\"a\":[1,2]} , \n"[..], b"[3]\n ] \n"],
            vec![&b"[{\"a\":[1,2]} ]"[..], b"[[3]\n ]"],
        ),
        (b"[", vec![b"]"], vec![b"[]"]),
        (b"\xEF\xBB\xBF[", vec![b"\"],\",", b"\"]\"]"], vec![b"[\"],\"]", b"[\"]\"]"]),
    ] {
        for in_parts in [false, true] {
            let (directory, manifest) = staged(Format::Json, prefix, &ranges, in_parts);
            for (unit, expected) in units(&manifest, UnitKind::MicroBatch).iter().zip(&expected) {
                let found = fed(directory.path(), &manifest, unit).expect("unchanged");
                assert_eq!(found, *expected, "{}", String::from_utf8_lossy(&found));
                serde_json::from_slice::<Vec<serde_json::Value>>(&found).expect("an array");
            }
        }
    }
}

#[test]
fn white_space_longer_than_a_window_does_not_hide_the_end_of_an_array() {
    let last = [b"1]".as_slice(), &vec![b' '; 10_000]].concat();
    let (directory, manifest) = staged(Format::Json, b"[", &[&last], false);
    let unit = &units(&manifest, UnitKind::MicroBatch)[0];
    assert_eq!(fed(directory.path(), &manifest, unit).expect("unchanged"), b"[1]");
}

#[test]
fn a_changed_byte_is_found_before_the_first_is_fed() {
    for kind in [UnitKind::MicroBatch, UnitKind::File, UnitKind::Range] {
        let (directory, manifest) = staged(Format::Csv, b"a\n", &[b"1\n2\n", b"3\n"], false);
        write(directory.path().join("data.csv"), b"a\n1\n7\n3\n");
        let unit = &units(&manifest, kind)[0];
        let error = Feed::verified(directory.path(), &manifest, unit).expect_err("changed");
        assert!(matches!(error, ContentError::Changed { .. }), "{kind:?}: {error}");
        assert!(error.to_string().contains("changed after it was staged"), "{error}");
    }
}

#[test]
fn a_shortened_file_counts_as_changed_and_a_missing_one_is_a_different_error() {
    let (directory, manifest) = staged(Format::Csv, b"a\n", &[b"1\n2\n"], false);
    let unit = &units(&manifest, UnitKind::MicroBatch)[0];
    write(directory.path().join("data.csv"), b"a\n1\n");
    assert!(matches!(Feed::verified(directory.path(), &manifest, unit), Err(ContentError::Changed { .. })));
    files::remove_file(&directory.path().join("data.csv")).expect("remove");
    assert!(matches!(Feed::verified(directory.path(), &manifest, unit), Err(ContentError::File(_))));
}

#[test]
fn a_reader_that_stops_reading_is_reported_with_the_bytes_that_it_took() {
    let feed = Feed::of_bytes(vec![0; 1 << 20]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let (mut near, far) = tokio::io::duplex(16);
    drop(far);
    let error = runtime.block_on(feed.write_to(&mut near)).expect_err("nobody reads");
    assert!(matches!(error, FeedingError::Incomplete { fed: 0, length: 1_048_576 }), "{error}");
}

/// Returns bytes that differ by position.
fn content(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|position| (position / 7 + position % 251) as u8 ^ seed).collect()
}

proptest! {
    // Each case writes and reads files.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whole_files_and_ranges_are_fed_byte_for_byte(
        prefix in 0..40usize,
        lengths in prop::collection::vec(0..600_000usize, 0..4),
        in_parts in any::<bool>(),
    ) {
        let prefix = content(prefix, 1);
        let ranges: Vec<Vec<u8>> = (2..).zip(&lengths).map(|(seed, length)| content(*length, seed)).collect();
        let ranges: Vec<&[u8]> = ranges.iter().map(Vec::as_slice).collect();
        // Without micro-batches there are no parts.
        let (directory, manifest) = staged(Format::Binary, &prefix, &ranges, in_parts && !ranges.is_empty());
        let whole = [prefix.as_slice(), &ranges.concat()].concat();
        let mut file = units(&manifest, UnitKind::File);
        prop_assert!(fed(directory.path(), &manifest, &file.remove(0)).expect("unchanged") == whole);
        let mut joined = Vec::new();
        for unit in units(&manifest, UnitKind::Range) {
            joined.extend(fed(directory.path(), &manifest, &unit).expect("unchanged"));
        }
        prop_assert!(joined == whole);
    }
}
