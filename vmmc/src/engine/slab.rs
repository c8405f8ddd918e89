//! A table whose keys fit into 32 bits and are not reused at once.
//!
//! A key is a place (20 bits) and a generation (12 bits) that changes whenever the place is emptied. So a key that is
//! late, on the wire or in the application's hands, finds nothing rather than its successor, until the place
//! has been used 4096 times.

const PLACE_BITS: u32 = 20;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

/// The table.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    most: usize,
}

impl<T> Slab<T> {
    /// A table of at most `most` entries, 2^20 at the most.
    pub(crate) fn new(most: usize) -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new(), most: most.min(1 << PLACE_BITS) }
    }

    /// Puts a value into the table; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, T> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.most => {
                self.places.push((1, None));
                self.places.len() as u32 - 1
            }
            None => return Err(value),
        };
        let entry = &mut self.places[place as usize];
        entry.1 = Some(value);
        Ok(entry.0 << PLACE_BITS | place)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn get(&self, key: u32) -> Option<&T> {
        let (generation, value) = self.places.get((key & PLACE_MASK) as usize)?;
        value.as_ref().filter(|_| *generation == key >> PLACE_BITS)
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let (generation, value) = self.places.get_mut((key & PLACE_MASK) as usize)?;
        value.as_mut().filter(|_| *generation == key >> PLACE_BITS)
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        self.get(key)?;
        let place = key & PLACE_MASK;
        let entry = &mut self.places[place as usize];
        entry.0 = (entry.0 + 1) & (u32::MAX >> PLACE_BITS);
        self.free.push(place);
        entry.1.take()
    }

    /// All entries with their keys.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(place, (generation, value))| {
            let key = *generation << PLACE_BITS | place as u32;
            value.as_mut().map(|value| (key, value))
        })
    }

    /// All entries with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places.iter().enumerate().filter_map(|(place, (generation, value))| {
            let key = *generation << PLACE_BITS | place as u32;
            value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_find_nothing() {
        let mut slab = Slab::new(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), Err('c'));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c').unwrap();
        assert_ne!(a, c);
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get(b), slab.get(c)), (Some(&'b'), Some(&'c')));
        assert_eq!(slab.get(u32::MAX), None);
        assert_eq!((slab.iter().count(), slab.len()), (2, 2));
    }
}
