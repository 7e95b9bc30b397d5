"""Stories of pods, nodes and daemons that are played on real or fast nodes of one lab and checked in the same way.

A story makes something happen, and says what must hold. After each one the addresses are checked: none was given to two
pods at once, none is lost, and every pod has the one that its record says (:mod:`~spiderpool_lab.stories.audit`).
"""
