package org.example;

import android.content.Context;
import dev.xpert.Cancellable;
import dev.xpert.Listener;
import dev.xpert.PersonalText;
import dev.xpert.PersonalizeOptions;
import dev.xpert.Progress;
import dev.xpert.TextSource;
import dev.xpert.XPertConfig;
import dev.xpert.XPertException;
import dev.xpert.XPertFutures;
import java.io.File;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** The same from Java: futures and listeners. */
public final class JavaNotes {
    private JavaNotes() {}

    public static CompletableFuture<String> choose(Context context, File bundle, File catalogue, List<String> notes) {
        List<PersonalText> texts = notes.stream().map(PersonalText::new).toList();
        return XPertFutures.open(context, new XPertConfig(bundle))
            .thenCompose(xpert -> xpert.select(texts, catalogue).whenComplete((found, error) -> xpert.close()))
            .thenApply(selection -> selection.getAbstained() ? selection.getReason() : selection.getChoice());
    }

    public static Cancellable train(XPertFutures xpert, List<String> notes, Runnable onDone) {
        return xpert.personalize(List.of(TextSource.of(notes)), new PersonalizeOptions(), new Listener<Progress>() {
            @Override
            public void onNext(Progress progress) {
                if (progress instanceof Progress.Done) {
                    onDone.run();
                }
            }

            @Override
            public void onEnd(XPertException error) {}
        });
    }
}
