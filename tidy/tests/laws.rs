//! Every law of the project, held against the tree.

use std::io;

use tidy::{Breach, Source, Tree, documents, fences, floors, sizes, words};

#[track_caller]
fn none(breaches: &[Breach]) {
    let list: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} broken:\n{}", list.len(), list.join("\n"));
}

#[track_caller]
fn each_source_keeps(law: fn(&Source) -> Vec<Breach>) -> io::Result<()> {
    let tree = Tree::read()?;
    assert!(tree.sources.len() > 10, "the tree was not found");
    none(&tree.sources.iter().flat_map(law).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_file_fits_in_a_head() -> io::Result<()> {
    each_source_keeps(sizes::file)
}

#[test]
fn a_function_fits_on_a_screen() -> io::Result<()> {
    each_source_keeps(sizes::function)
}

#[test]
fn every_file_says_what_it_is() -> io::Result<()> {
    each_source_keeps(words::module_doc)
}

#[test]
fn names_say_something() -> io::Result<()> {
    each_source_keeps(words::names)
}

#[test]
fn a_note_for_later_names_an_issue() -> io::Result<()> {
    each_source_keeps(words::notes)
}

#[test]
fn no_line_ends_with_a_blank() {
    let tree = Tree::read().unwrap();
    none(&tree.texts.iter().flat_map(|(path, text)| words::line_ends(path, text)).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_stays_in_its_fences() -> io::Result<()> {
    each_source_keeps(fences::unsafe_code)
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() -> io::Result<()> {
    each_source_keeps(fences::safety)
}

#[test]
fn raw_descriptors_stay_in_their_fences() -> io::Result<()> {
    each_source_keeps(fences::raw_descriptors)
}

#[test]
fn nobody_joins_the_rootfs_with_a_path() -> io::Result<()> {
    each_source_keeps(fences::joined_rootfs)
}

#[test]
fn the_planner_is_pure() -> io::Result<()> {
    each_source_keeps(floors::pure_plan)
}

#[test]
fn crates_know_only_those_below_them() {
    let tree = Tree::read().unwrap();
    assert!(tree.manifests.len() > 5, "the manifests were not found");
    none(&tree.manifests.iter().flat_map(floors::ours).collect::<Vec<_>>());
    none(&tree.manifests.iter().flat_map(floors::foreign).collect::<Vec<_>>());
}

#[test]
fn documents_point_at_what_is_there() {
    let tree = Tree::read().unwrap();
    none(&documents::links(&tree));
    none(&documents::code_map(&tree));
    none(&documents::difference_tests(&tree));
}

#[test]
fn decisions_are_numbered() {
    none(&documents::decisions(&Tree::read().unwrap()));
}

#[test]
fn every_dependency_has_its_reason() -> io::Result<()> {
    none(&documents::dependencies(&Tree::read()?));
    Ok(())
}
