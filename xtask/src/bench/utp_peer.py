"""One end of a libtorrent transfer over uTP alone: seeds DIR/NAME, or fetches it from a seed.

usage: utp_peer.py seed|leech DIR NAME TORRENT OWN_IP:PORT [PEER_IP:PORT]
"""
import os
import sys
import time

import libtorrent as lt

role, directory, name, torrent, own = sys.argv[1:6]
if role == "seed" and not os.path.exists(torrent):
    files = lt.file_storage()
    lt.add_files(files, os.path.join(directory, name))
    made = lt.create_torrent(files, 1 << 20)
    lt.set_piece_hashes(made, directory)
    with open(torrent + ".new", "wb") as out:
        out.write(lt.bencode(made.generate()))
    os.rename(torrent + ".new", torrent)
session = lt.session({
    "listen_interfaces": own,
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_tcp": False, "enable_outgoing_tcp": False,
    "enable_incoming_utp": True, "enable_outgoing_utp": True,
    "allow_multiple_connections_per_ip": True,
})
handle = session.add_torrent({
    "ti": lt.torrent_info(torrent), "save_path": directory,
    "flags": lt.torrent_flags.seed_mode if role == "seed" else lt.torrent_flags.default_flags & ~lt.torrent_flags.auto_managed,
})
handle.resume()
while True:
    if role == "leech" and handle.status().num_peers == 0:
        host, port = sys.argv[6].rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    time.sleep(1)
