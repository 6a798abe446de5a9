//! Many small things that are found by number, made in groups when the first of a group is asked for: so a volume of which
//! little is used takes little memory.

use std::sync::OnceLock;

/// Things in a group.
const GROUP: usize = 64;

/// `GROUPS` groups of things that start as the default.
#[derive(Debug)]
pub(super) struct Groups<T, const GROUPS: usize>(Box<[OnceLock<Box<[T]>>]>);

impl<T: Default, const GROUPS: usize> Groups<T, GROUPS> {
    /// Their number.
    pub const LEN: usize = GROUPS * GROUP;

    /// The thing of a number, modulo [`Groups::LEN`].
    pub fn get(&self, number: u64) -> &T {
        let (group, at) = Self::place(number);
        &self.0[group].get_or_init(|| (0..GROUP).map(|_| T::default()).collect())[at]
    }

    /// As [`Groups::get`], if it was made already.
    pub fn made(&self, number: u64) -> Option<&T> {
        let (group, at) = Self::place(number);
        self.0[group].get().map(|group| &group[at])
    }

    /// All that were made, with their numbers.
    pub fn all_made(&self) -> impl Iterator<Item = (u64, &T)> {
        let numbered = self.0.iter().zip(0u64..);
        numbered.flat_map(|(group, number)| {
            let made = group.get().map_or(&[][..], |things| &things[..]);
            made.iter().zip(number * GROUP as u64..).map(|(thing, number)| (number, thing))
        })
    }

    fn place(number: u64) -> (usize, usize) {
        let at = (number % Self::LEN as u64) as usize;
        (at / GROUP, at % GROUP)
    }
}

impl<T: Default, const GROUPS: usize> Default for Groups<T, GROUPS> {
    fn default() -> Groups<T, GROUPS> {
        Groups((0..GROUPS).map(|_| OnceLock::new()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_number_has_its_own_and_others_are_not_made() {
        let things = Groups::<Cell<u64>, 4>::default();
        assert_eq!((Groups::<Cell<u64>, 4>::LEN, things.all_made().count()), (256, 0));
        for number in [0, 63, 128, 255] {
            things.get(number).set(number + 1);
        }
        assert!(things.made(64).is_none());
        assert_eq!(things.all_made().count(), 3 * GROUP);
        let set: Vec<_> = things.all_made().filter(|(_, thing)| thing.get() > 0).collect();
        assert!(set.iter().all(|(number, thing)| thing.get() == number + 1) && set.len() == 4, "{set:?}");
        assert_eq!(things.made(256 + 63).map(Cell::get), Some(64));
    }
}
