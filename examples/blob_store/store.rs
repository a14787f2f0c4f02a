//! A blob store: names to bytes, with its index on the same device and in the same transactions as the allocations.
//!
//! Invariants:
//! - A blob's bytes are durable before the slot that names them: a commit waits for direct writes into what it allocates.
//! - A slot changes in the transaction that allocates or frees the blob's extent, so neither outlives the other.
//! - An extent with the owner tag [`INDEX_OWNER`] belongs to the index, every other one belongs to exactly one blob.
//! - While somebody works on a name, nobody else changes that name; other names go on beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold::{AllocRequest, Allocator, Extent, Transaction};
use futures_util::TryStreamExt;
use tokio::sync::RwLock;

use super::error::{Error, Result};
use super::slot::{SLOT_BYTES, Slot, check_name};

/// Tag of the extents that hold the index.
pub(crate) const INDEX_OWNER: u64 = u64::from_be_bytes(*b"blobindx");
/// The index grows by extents of this many bytes.
const INDEX_EXTENT_BYTES: u64 = 64 << 10;
/// Names are locked in this many classes.
const NAME_LOCKS: usize = 64;

/// Where a slot lies: an index extent, and an offset in it.
type Place = (Extent, u64);

#[derive(Debug, Default)]
struct Index {
    blobs: BTreeMap<String, (Place, Slot)>,
    free: BTreeSet<Place>,
    extents: BTreeSet<Extent>,
}

#[derive(Debug)]
struct Inner {
    space: Allocator,
    index: Mutex<Index>,
    names: [RwLock<()>; NAME_LOCKS],
    growing: tokio::sync::Mutex<()>,
}

/// An open blob store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct BlobStore(Arc<Inner>);

/// What is in a blob store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Blobs.
    pub(crate) blobs: usize,
    /// Their bytes.
    pub(crate) blob_bytes: u64,
    /// Extents of the index.
    pub(crate) index_extents: usize,
}

impl BlobStore {
    /// Builds the index in memory from the index on the device, and compares it with what is allocated.
    pub(crate) async fn open(space: Allocator) -> Result<Self> {
        let index = load(&space).await?;
        let names = std::array::from_fn(|_| RwLock::default());
        let store =
            Self(Arc::new(Inner { space, index: Mutex::new(index), names, growing: Default::default() }));
        store.check_space().await?;
        Ok(store)
    }

    /// Stores `data` under `name`, durably; a blob of that name is replaced, at once or not at all.
    ///
    /// What was begun runs to its end, also when the caller stops waiting.
    pub(crate) async fn put(&self, name: &str, data: Vec<u8>) -> Result<Slot> {
        check_name(name)?;
        let (inner, name) = (Arc::clone(&self.0), name.to_owned());
        tokio::spawn(async move { inner.put(name, &data).await }).await.map_err(|_| Error::Interrupted)?
    }

    /// The bytes of a blob; `None` when there is none of that name.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let _shared = self.0.lock_of(name).read().await;
        let found = self.0.index().blobs.get(name).map(|(_, slot)| slot.clone());
        let Some(slot) = found else { return Ok(None) };
        let len = usize::try_from(slot.len).map_err(|_| Error::Damaged { name: name.to_owned() })?;
        let data = match &slot.extent {
            Some(extent) => self.0.space.read_at(extent, 0, len).await?,
            None => Vec::new(),
        };
        if blake3::hash(&data) == slot.hash {
            Ok(Some(data))
        } else {
            Err(Error::Damaged { name: name.to_owned() })
        }
    }

    /// Deletes a blob, durably; `false` when there is none of that name.
    ///
    /// What was begun runs to its end, also when the caller stops waiting.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool> {
        let (inner, name) = (Arc::clone(&self.0), name.to_owned());
        tokio::spawn(async move { inner.delete(&name).await }).await.map_err(|_| Error::Interrupted)?
    }

    /// What the index knows about every blob, in order of name.
    pub(crate) fn list(&self) -> Vec<Slot> {
        self.0.index().blobs.values().map(|(_, slot)| slot.clone()).collect()
    }

    /// Reads every blob and compares it with its hash, and what is allocated with the index.
    pub(crate) async fn verify(&self) -> Result<Summary> {
        let mut summary = Summary { blobs: 0, blob_bytes: 0, index_extents: self.0.index().extents.len() };
        for slot in self.list() {
            if let Some(data) = self.get(&slot.name).await? {
                summary.blobs += 1;
                summary.blob_bytes += data.len() as u64;
            }
        }
        self.check_space().await?;
        Ok(summary)
    }

    /// Closes the store in order. Nothing acknowledged is lost without it.
    pub(crate) async fn close(&self) -> Result<()> {
        Ok(self.0.space.close().await?)
    }

    /// Compares what is allocated with the extents of the index and of the blobs. Nobody may be writing meanwhile.
    async fn check_space(&self) -> Result<()> {
        let mut expected: BTreeMap<Extent, u64> = BTreeMap::new();
        {
            let index = self.0.index();
            expected.extend(index.extents.iter().map(|extent| (*extent, INDEX_OWNER)));
            for (_, slot) in index.blobs.values() {
                if let Some(extent) = slot.extent
                    && expected.insert(extent, owner_of(&slot.name)).is_some()
                {
                    return Err(Error::Index { extent, reason: "two owners" });
                }
            }
        }
        let mut allocated = std::pin::pin!(self.0.space.extents());
        let mut bytes = 0;
        while let Some(info) = allocated.try_next().await? {
            bytes += info.extent.len;
            match expected.remove(&info.extent) {
                Some(owner) if owner == info.owner => {}
                Some(_) => return Err(Error::Index { extent: info.extent, reason: "another owner tag" }),
                None => return Err(Error::Index { extent: info.extent, reason: "allocated, but nobody's" }),
            }
        }
        if let Some((extent, _)) = expected.pop_first() {
            return Err(Error::Index { extent, reason: "in the index, but not allocated" });
        }
        let counted = self.0.space.stats().allocated_bytes;
        if counted != bytes {
            return Err(Error::Leaked { counted, listed: bytes });
        }
        Ok(())
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is below the number of locks")]
    fn lock_of(&self, name: &str) -> &RwLock<()> {
        let [first, ..] = *blake3::hash(name.as_bytes()).as_bytes();
        &self.names[usize::from(first) % NAME_LOCKS]
    }

    async fn put(&self, name: String, data: &[u8]) -> Result<Slot> {
        let _alone = self.lock_of(&name).write().await;
        let mut txn = self.space.begin();
        let slot = self.place_data(&mut txn, name, data).await?;
        let replaced = self.index().blobs.get(&slot.name).cloned();
        if let Some((place, old)) = replaced {
            if let Some(extent) = &old.extent {
                txn.free(extent).await?;
            }
            txn.write(&place.0, place.1, &slot.encode()).await?;
            txn.commit().await?;
            self.index().blobs.insert(slot.name.clone(), (place, slot.clone()));
            return Ok(slot);
        }
        let Some(place) = self.take_free_slot() else { return self.put_and_grow(txn, slot).await };
        let written = async {
            txn.write(&place.0, place.1, &slot.encode()).await?;
            txn.commit().await
        };
        match written.await {
            Ok(_) => {
                self.index().blobs.insert(slot.name.clone(), (place, slot.clone()));
                Ok(slot)
            }
            Err(error) => {
                // Also right when the outcome is unknown: the store has stopped then, and reopening reads the truth.
                self.index().free.insert(place);
                Err(error.into())
            }
        }
    }

    /// Allocates space for a blob and writes its bytes there, directly.
    async fn place_data(&self, txn: &mut Transaction, name: String, data: &[u8]) -> Result<Slot> {
        let len = data.len() as u64;
        let extent = if data.is_empty() {
            None
        } else {
            let extent = txn.alloc(AllocRequest::bytes(len).owner(owner_of(&name))).await?;
            self.space.write_at(&extent, 0, data).await?;
            Some(extent)
        };
        Ok(Slot { name, len, hash: blake3::hash(data), extent })
    }

    fn take_free_slot(&self) -> Option<Place> {
        self.index().free.pop_first()
    }

    /// Adds an extent to the index in the same transaction. Others that find no slot wait for it here.
    async fn put_and_grow(&self, mut txn: Transaction, slot: Slot) -> Result<Slot> {
        let _alone = self.growing.lock().await;
        let grown = self.take_free_slot();
        let place = match grown {
            Some(place) => place,
            None => {
                let extent = txn.alloc(AllocRequest::bytes(INDEX_EXTENT_BYTES).owner(INDEX_OWNER)).await?;
                // What lay there before must not be read as slots.
                self.space.write_at(&extent, 0, &vec![0; usize::try_from(extent.len).unwrap_or(0)]).await?;
                (extent, 0)
            }
        };
        let written = async {
            txn.write(&place.0, place.1, &slot.encode()).await?;
            txn.commit().await
        };
        let outcome = written.await;
        let mut index = self.index();
        match outcome {
            Ok(_) => {
                if grown.is_none() {
                    index.extents.insert(place.0);
                    index.free.extend(places(place.0).skip(1));
                }
                index.blobs.insert(slot.name.clone(), (place, slot.clone()));
                Ok(slot)
            }
            Err(error) => {
                index.free.extend(grown);
                Err(error.into())
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<bool> {
        let _alone = self.lock_of(name).write().await;
        let found = self.index().blobs.get(name).cloned();
        let Some((place, slot)) = found else { return Ok(false) };
        let mut txn = self.space.begin();
        if let Some(extent) = &slot.extent {
            txn.free(extent).await?;
        }
        txn.write(&place.0, place.1, &Slot::FREE_MARK).await?;
        txn.commit().await?;
        let mut index = self.index();
        index.blobs.remove(name);
        index.free.insert(place);
        Ok(true)
    }
}

/// Reads the index: its extents are known by their owner tag.
async fn load(space: &Allocator) -> Result<Index> {
    let mut index = Index::default();
    {
        let mut extents = std::pin::pin!(space.extents());
        while let Some(info) = extents.try_next().await? {
            if info.owner == INDEX_OWNER {
                index.extents.insert(info.extent);
            }
        }
    }
    for extent in index.extents.clone() {
        let bytes = space.read_at(&extent, 0, usize::try_from(extent.len).unwrap_or(0)).await?;
        for (place, bytes) in places(extent).zip(bytes.chunks_exact(SLOT_BYTES)) {
            let Some(slot) = Slot::decode(bytes).map_err(|reason| Error::Index { extent, reason })? else {
                index.free.insert(place);
                continue;
            };
            if index.blobs.insert(slot.name.clone(), (place, slot)).is_some() {
                return Err(Error::Index { extent, reason: "a name is there twice" });
            }
        }
    }
    Ok(index)
}

fn places(extent: Extent) -> impl Iterator<Item = Place> {
    (0..extent.len / SLOT_BYTES as u64).map(move |number| (extent, number * SLOT_BYTES as u64))
}

/// The owner tag of a blob's extent: a hash of its name, which is never the index's tag.
fn owner_of(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    let tag = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    if tag == INDEX_OWNER { !tag } else { tag }
}
