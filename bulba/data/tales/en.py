"""How the tales are told in English. The notation is that of `template`; the words are in `en_words`."""

from __future__ import annotations

from bulba.data.tales.en_words import English

PROMPTS = ["Once upon a time", "Long ago", "There once lived", "Beyond the high mountains"]

_WORDING = """
# shared
= open
Once upon a time there lived {H.a} {O.where.a}.
There once lived {H.a} {O.where.a}.
Long ago there lived {H.a} {O.where.a}.
Beyond the [high mountains|blue seas], beyond the [dark forests|wide fields], there lived {H.a}.
= formula
[||That is the end of the tale.]
[||And that is the end of the tale. Well done for listening!]
[||And here the tale is over.]

# lost
= title
{h} and {x}
{X}
How {h} looked for {x}
= lose
{he@h} had {X.a}. One day {h} was playing {p.where} and lost {him@x}.
More than anything in the world {h} loved {his@h} {X.bare}. But one day {he@h} {set off@h} {p.to} and lost {him@x}.
Granny gave {him@h} {X.a}. {h} {set off@h} {p.to}, but came home without {x}.
= search
{h} looked for {x} [all day|until evening], but could not find {him@x}. {he@h} sat down on a [stump|stone] and began
    to cry.
{h} looked under the [bench|bush] and behind the [fence|stump], but {x} was not there. {he@h} was very sad.
{h} began to look for {x}. [All day|Until evening] {he@h} peeped under every bush, but found nothing.
= help
{F.a} {passed@f} by.
    “Why are you [crying|so sad], {h.voc}?” asked {f}.
    “I have lost my {X.bare},” said {h}.
    “Do not worry, I will help you!”
    / [They went {p.to} together, and soon|They looked and looked {p.where}, and at last] {f} found {x} [in the tall
    grass|under a bush|under a big leaf|by the path].
Suddenly {F.a} {approached@f}.
    “What has happened?” {he@f} asked.
    “My {x.bare} is gone!” said {h}.
    “Do not cry! We will find {him@x} together.”
    / They looked and looked, and suddenly {f} shouted:
    “Look, here {he@x} is!”
    / {X} was lying [in the grass|under a bush|under a tree].
Then {he@h} met {F.a}.
    “Have you seen my {x.bare}?” asked {h}.
    “Yes, I have,” said {f}. “It is lying {p.where}. Come, I will show you!”
    / They came {p.to}, and there, [in the grass|under a bush|under a birch tree], lay {X}.
= end
How glad {h} was! {he@h} thanked {f} and treated {him@f} to {E.a}. [A friend in need is a friend indeed.|A good friend
    is better than gold.]
“Thank you, {f.voc}!” said {h} and gave {him@f} {E.a}.
    / Since then {h} and {f} have [been friends|always played together]. [A friend in need is a friend indeed.|]

# harvest
= title
{W}
How {h} pulled {w}
{h} and {W}
= grow
In spring {he@h} planted {w.a} in the garden. [All summer|Every day] {h} watered {him@w}, and by autumn {he@w} grew
    huge!
{h} planted {w.a} behind the house. {w} grew and grew until [everyone came to look|it could be seen over the fence].
{he@h} had a garden. In spring {h} planted {w.a}, and by autumn there grew {W.a}.
= pull
[Autumn came.|Then autumn came.] {h} began to pull {w}. {he@h} pulled and pulled, but could not pull {him@w} out.
In autumn {h} went to the garden, took hold of {w} and pulled. But {w} did not move!
= call
{h} called {F.a}. They pulled together, but could not pull {him@w} out. {f} called {G.a}. The three of them pulled,
    but {w} did not move.
“Help me, {f.voc}!” said {h}.
    / {F.a} {arrived@f}, and after {him@f} {G.a}. They all pulled together, but {w} did not move.
= all
Then {M.a} {approached@m}.
    “May I help too?” asked {m}.
    / Everyone laughed, but they [agreed|let {him@m} help]. They all pulled together, and out came {w}!
{M.a} saw this and came to help too. They all pulled together, and out came {w}!
= end
In the evening {h} made a tasty soup and treated [everyone|all the friends]. [Many hands make light work.|]
“Thank you, {m.voc}!” said {h}. “Without you we could not have done it.”
    / [Many hands make light work.|Even a little help is a great help.]

# trick
= title
{h} and {v}
How {h} tricked {v}
{H} and {V}
= find
[One day|One morning] {h} found {E.a} {p.where}. “[What luck!|What a tasty dinner!]” {he@h} thought.
[One day|One morning] {he@h} {set off@h} {p.to} and found {E.a} there. {h} was glad and carried {e} home.
= threat
Suddenly out came {V.a}.
    “Give me {e}, or I will eat you!” said {v}.
{V.a} jumped out from behind a bush.
    “Stop, {h.voc}!” shouted {v}. “Give me your {e.bare}!”
= ruse
{h} was afraid, but did not show it.
    “Very well, take it,” {he@h} said. “But first close your eyes and count to ten.”
    / {v} closed {his@v} eyes, and {h} took {e} and ran home.
“Take it if you are not afraid,” said {h}. “Can you not hear? The dogs are coming!”
    / {v} was frightened and ran away, and {h} went home in peace.
“Who eats with dirty paws?” said {h}. “First wash them in the [river|stream].”
    / While {v} was washing {his@v} paws, {h} hid at home with {e}.
= end
{h} shared {e} with [the whole family|the children], and {v} was left with [nothing|no dinner]. [Wit is better than
    strength.|A clever head is worth more than strong paws.]
{v} went away hungry, and {h} laughed for a long time. [Wit is better than strength.|A clever head is worth more than
    strong paws.]

# trap
= title
{h} and {f}
{H} and {F}
How {f} saved {h}
= caught
One day {he@h} caught {F.a} {p.where}.
    “Do not hurt me, {h.voc}!” begged {f}. “One day I will be of use to you.”
One day {h} lay down to sleep {p.where}, and {F.a} woke {him@h}. {h} seized {f}.
    “Let me go, {h.voc}!” cried {f}. “One day I will help you.”
= plea
{h} [only |]laughed.
    “You are so little! How can you help me?”
    / But {he@h} felt sorry for {f} and let {him@f} go.
{h} found it funny: how could such a little {f.bare} help? But {he@h} let {him@f} go.
= net
After a [week|month] {h} was caught in a net. {he@h} tried and tried, but could not get out.
In [autumn|spring] the hunters put a net {p.where}, and {h} was caught in it. {he@h} called for help for a long time,
    but nobody [came|answered].
= free
{f} heard about it and {arrived@f} to help. With {his@f} sharp teeth {he@f} cut [all the ropes|the net].
    “Now you are free, {h.voc},” said {f}.
= end
“Forgive me for laughing at you,” said {h}.
    / Since then {h} and {f} have [been friends|lived in peace]. [Even a little friend can be a great friend.|]
{h} thanked {f}, and from that day they were friends. [Even a little friend can be a great friend.|Do not judge by
    size, judge by the heart.]

# share
= title
{N}
{h} and {f}
How {h} shared with {f}
= find
One day in autumn {h} found {N} {p.where}. {he@h} put {him@n} in a basket and {set off@h} home.
In autumn {he@h} {set off@h} {p.to} and gathered {N} there. “[There will be food for the winter|Here is food for the
    winter],” thought {h}.
= meet
On the way {he@h} met {F.a}.
    “I have eaten nothing since morning,” said {f}.
Then {he@h} saw {F.a} sitting [under an oak tree|by the path] and crying.
    “What is the matter, {f.voc}?” asked {h}.
    “[I am hungry, and there is nothing at home|There is not a crumb at home, and I am so hungry],” said {f}.
= share
{h} felt sorry for {f} and gave {him@f} {k}. {he@h} kept {r.num} for {himself@h}.
“Take this, {f.voc},” said {h} and gave {him@f} {k}. “{r} {is@r} enough for me.”
= winter
A [cold|snowy|hard] winter came. {h} was hungry. Then {f} {arrived@f} and brought a basket full of {e.bare}.
In winter {h} had no food left. Suddenly someone knocked at the [door|window]. There stood {f} with a basket full of
    {e.bare}.
= end
“You shared with me in autumn, and I share with you in winter,” said {f}.
    / [Kindness always comes back.|Good is never forgotten.]
“How good it is that we are friends!” said {h}.
    / [Kindness always comes back.|Good is never forgotten.]

# fear
= title
The noise at night
Who is there?
{h} and the noise at night
= noise
One night {h} was woken by a noise. Someone was [rustling|stamping|puffing] [under the window|behind the door|in the
    bushes]. {he@h} was very frightened!
One evening {h} was sitting at home and suddenly heard someone rustling [under the window|in the bushes]. “It is a
    terrible beast!” {he@h} thought.
= friend
{h} {set off@h} to find {F.a}.
    “[Someone terrible|A terrible beast] is there!” {he@h} cried.
    “Do not be afraid,” said {f}. “Let us go and look together.”
{he@h} called {F.a} for help.
    “Who are you afraid of, {h.voc}?” asked {f}. “Let us go and see who is there.”
= go
They took a [lantern|candle] and quietly went [towards the noise|to the bushes]. {f} walked in front, and {h} trembled
    with fear.
{f} walked in front, and {h} walked behind. The night was [dark|cold], and [the wind howled|the leaves rustled|an owl
    hooted].
= truth
They looked under a bush, and there sat {G.a} eating {E.a}.
    “I am sorry, did I wake you?” asked {g}.
    / All three of them laughed.
And under a bush sat {G.a}.
    “I was only looking for {e.a},” said {g}. “Do not be afraid of me!”
= end
Since then {h} has not been afraid of noises at night. Fear has big eyes.
{h} invited everyone home and treated them to [tea|warm milk|pies]. Fear has big eyes.

# house
= title
The warm little house
A house for {h}
How {h} built a house
= need
{he@h} had no house. Autumn came, it began to rain, and {h} decided to build a house.
{he@h} slept under [an old fir tree|a bush]. In autumn {h} grew cold. “I must build a house,” {he@h} thought.
= help
{h} {set off@h} to find {F.a}.
    “Help me to build a house, {f.voc}!” {he@h} asked.
    “I will,” said {f}. “[Together the work is easier.|Work is more fun together.]”
    “And I will help too,” said {G.a}.
{F.a} and {G.a} heard about it.
    “We will help you, {h.voc}!” they said.
= build
They worked [for three days|for a whole week|from morning till night]: {f} carried [logs|boards|stones], {g} carried
    [moss|straw|clay], and {h} built the walls. And they built a [warm|bright|pretty] little house!
= winter
Snow fell, and [the frost crackled|the blizzard howled|the river froze], but it was warm [in the house|and quiet in
    the house|by the stove]. {h} invited {f} and {g} to visit. They [drank tea|ate porridge|sat by the stove] and sang
    songs.
= end
With [good|true] friends even winter is warm.
[Where there is friendship, there is warmth.|Good work together keeps everyone warm.]

# race
= title
{h} and {f}
Who is faster?
{H} and {F}
= boast
{he@h} ran faster than anyone and was very proud of it.
    “Nobody can catch me!” {h} told [everyone|all the animals].
{h} liked to boast.
    “I run faster than the wind!” {he@h} told [everyone|all the animals].
= bet
{F.a} heard this.
    “Let us race to {P},” said {f}.
    “With you?” laughed {h}. “Very well!”
“Let us race to {P}!” said {F.a} one day.
    / {h} laughed, but agreed.
= run
{h} ran ahead and looked back: {f} was far behind. “I have time to rest,” {he@h} thought, lay down under a bush and
    fell asleep.
Soon {h} left {f} far behind and thought: “I have plenty of time.” {he@h} lay down [on the grass|under a bush] and
    fell asleep.
= finish
But {f} slowly {passed@f} on and never stopped. When {h} woke up, {f} was already waiting at {p}.
But {f} {passed@f} and {passed@f}. {h} woke up and ran to {p}, but {f} was already sitting there and smiling.
= end
{h} was ashamed and never boasted again. [Slow and steady wins the race.|]
“The one who does not stop is the one who wins,” said {f}.
    / Since then {h} has never boasted.

# sick
= title
Medicine for {f}
How {h} helped {f}
{h} and {f}
= ill
{he@h} had a friend, {F.a}. One day {f} fell ill.
    “{E.bare} {is@e} good for a cough,” said the wise owl.
One day {F.a} fell ill: {he@f} lay in bed and coughed. “{E.bare} will help {him@f},” thought {h}.
= way
{h} took a jug and {set off@h} {p.to} for {e.bare}. [It was raining|The wind was blowing|The sun was hot], but {he@h}
    did not stop.
{h} {set off@h} to look for {e.bare}. {he@h} crossed a [stream|bridge], went round a [ravine|hill] and came {p.to}.
= get
There {he@h} met {G.a}.
    “Where are you going, {h.voc}?” asked {g}.
    “I am looking for {e.bare} for {f}: {he@f} is ill,” said {h}.
    / {g} felt sorry for {f} and gave {h} a jug full of {e.bare}.
There lived {G.a}.
    “Please give me {e.a},” said {h}. “It is for {f}.”
    “Take as much as you like,” said {g} and gave {him@h} a full jug.
= well
{h} came back and treated {f} to {E.a}. In [a day|two days|three days] {f} was well again.
[All day|All evening] {h} treated {f} to {e.bare}, and in the morning {he@f} was well again.
= end
“Thank you, {h.voc}!” said {f}. “Kindness heals better than [any medicine|all medicines].”
“You are a true friend!” said {f}.
    / A friend in need is a friend indeed.

# fish
= title
{h} and the golden fish
The golden fish
How {h} let the golden fish go
= catch
One day {he@h} went {p.to} to fish. {h} sat on the bank for a long time and at last caught {Y.a}.
Every day {h} went {p.to} to fish. One day {he@h} cast a line and pulled out {Y.a}.
= speak
“Let me go, {h.voc}!” said {y} in a human voice. “I will grant your wish.”
{h} was surprised, for {y} began to speak:
    “Let me go back into the water, and I will grant your wish!”
= wish
{h} thought and said:
    “I do not need much. Let me have {W.a}.”
    “Go home,” said {y}. “Your wish will come true.”
“I do not need riches,” said {h}. “I only want {W.a}.”
    / {y} waved {his@y} tail and [was gone|swam away].
= come
{h} came home, and there stood {W.a}!
{h} came back and looked: in the yard stood {W.a}!
= end
{he@h} thanked {y} and lived happily ever after. [Those who ask for little have much.|]
Since then {h} has lived happily and has always helped the neighbours. [A kind word opens every door.|]

# store
= title
{h} and {f}
{H} and {F}
How {h} got ready for winter
= summer
All summer {he@h} worked: {he@h} gathered {e.bare} and carried {him@e} home. But {F.a} only played and sang songs.
In summer {h} gathered {e.bare} from morning till night. And nearby lived {F.a}, who lay in the sun all day.
= advice
“Get ready for winter, {f.voc}!” {h} would say.
    “There is plenty of time!” {f} would answer. “Look how [warm it is|bright the sun is]!”
“Why do you not work?” {h} would ask.
    “[What for?|Why hurry?] Winter is far away,” {f} would answer.
= winter
Soon winter came, and everything was covered with snow. {f} was cold and hungry.
[Summer passed, autumn passed|Summer was over, autumn flew by], and [snow fell|winter came]. {f} had nothing to eat
    and nowhere to get warm.
= door
{he@f} {arrived@f} to {h} and knocked at the door.
    “Let me in, {h.voc}! I am freezing!”
    / {h} felt sorry for {f}, let {him@f} in and gave {him@f} food.
“Give me {e.a}, {h.voc}!” begged {f}.
    “And what did you do [in summer|all summer]?” asked {h}.
    “I sang,” said {f} quietly.
    / {h} sighed, but gave {him@f} food.
= end
“In summer we will work together,” said {h}.
    / Those who play all summer go hungry in winter.
Since then {f} has never been lazy. Those who play all summer go hungry in winter.

# way
= title
How {h} got lost
{h} and {f}
{h} in the forest
= gather
[One day|One morning] {h} went to the forest for {e.bare}. {he@h} gathered and gathered and did not notice how far
    {he@h} had gone.
{h} took a basket and went to the forest. There were so many {e.bare} there that {he@h} forgot the way home.
= lost
[It grew dark.|The sun set.] {h} called out, but nobody answered. {he@h} sat down on a stump and began to cry.
[Soon it was dark.|Night fell.] {h} turned right and came to a [bog|thicket], turned left and came to a
    [ravine|river]. {he@h} was frightened.
= meet
Suddenly {F.a} {approached@f}.
    “Do not be afraid, {h.voc},” {he@f} said. “Where is your home?”
    “I live in the village {p.where},” said {h}.
    “Come, I know the way.”
“Who is crying here?” asked {F.a}.
    “It is me, {h}. I am lost!”
    “Do not worry, I will take you home,” said {f}.
= home
They walked through the forest for a long time, and at last {h} saw {his@h} {o.bare}. Granny was already waiting [at
    the door|by the house].
{f} led {h} out of the forest. Granny was standing at the door[ in tears|]. How glad she was!
= end
{h} treated {f} to {A.a} and said thank you. [Go to the forest, but remember the way.|]
“Thank you, {f.voc}!” said {h} and gave {him@f} {A.a}.
    / Go to the forest, but remember the way.

# brood
= title
{h} and the {k.pl}
{K}
How {h} looked for {k}
= kids
{he@h} had {n}. Every morning {h} took them {p.to}.
{h} took {n} for a walk {p.to}.
    “Do not [go|run] far!” {he@h} told the {n.num}.
= gone
One evening {h} counted the {k.pl}: there were only {r.num}! The smallest one was gone.
One day {h} counted the {k.pl}, and there were only {r.num}. The smallest {k.bare} was lost!
= seek
{h} met {F.a}.
    “Have you seen my {k.bare}?” {he@h} asked.
    “Yes, I have,” said {f}. “It is sitting {p.where} and crying.”
{h} hurried to {F.a}.
    “Help me to find my {k.bare}!” {he@h} begged.
    “Come, I will show you where {he@k} is,” said {f}.
= found
Under a [big leaf|bush] sat {K}, trembling with fear.
    “Mother!” {he@k} cried. “I will never go away without you again!”
They came {p.to}, and there, under a [big leaf|bush], sat {K}. How glad {h} was!
= end
{he@h} thanked {f} and came home with all {n}. [Listen to your mother, and you will not get lost.|]
{h} hugged {k} and took {him@k} home. {he@h} had {n} again! [Listen to your mother, and you will not get lost.|]
"""

LANGUAGE = English(_WORDING)
